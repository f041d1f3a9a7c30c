"""Words of a run across frameworks: what was run, what each framework said and took, and what was checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

FORMAT = 1
"""Version of what `across --json` writes. 1: first version."""
REFERENCE = "mlx"
"""The framework that the others are compared with."""
FRAMEWORKS = (REFERENCE, "torch", "llama.cpp")
PACKAGES = {
    "mlx": ("mlx", ("mlx", "mlx_lm")),
    "torch": ("torch", ("torch", "transformers")),
    "llama.cpp": ("llama-cpp", ("llama_cpp", "gguf")),
}
"""Framework → the extra that installs it, and the modules that it needs."""

Finding = Literal["equal", "differs", "wrong", "unknown"]
"""Of a check. `wrong` means that not the same was computed: there is no ratio then."""


@dataclass(frozen=True)
class Task:
    """Something that every framework does."""

    kind: Literal["operator", "prefill", "decode"]
    name: str
    """Of an operator; of a stage, the model."""
    spec: str
    size: str
    """In words."""
    tokens: int
    """In the prompt, or before the first generated one."""
    work: int | None = None
    """Tokens that one call handles; none for an operator."""

    @property
    def subject(self) -> str:
        """What a check of this task is about: the operators together, or one model."""
        return "operators" if self.kind == "operator" else self.spec

    @property
    def label(self) -> str:
        """The name in tables."""
        return self.name if self.kind == "operator" else f"{self.kind} {self.spec}"


@dataclass(frozen=True)
class Turn:
    """What one framework took before the next one had its turn."""

    launch: int
    round: int
    samples: list[float]
    """Seconds per call."""
    busy_cores: float
    """Cores that its process kept busy while it was measured."""
    waited_s: float
    """Since its last turn at this task, while the others were measured."""
    idle_s: float
    """Processor time that it spent meanwhile."""


@dataclass(frozen=True)
class Entry:
    """One framework at one task."""

    framework: str
    facts: dict[str, Any] = field(default_factory=dict)
    turns: list[Turn] = field(default_factory=list)
    reason: str | None = None
    """Why there is no time."""
    failed: bool = False
    """Whether it broke, where the other reasons are that there is nothing to measure."""


@dataclass(frozen=True)
class Standing:
    """A framework's times at a task, and beside the reference's."""

    seconds: float
    """Median of the turns' medians, per call."""
    low: float
    high: float
    """Their quartiles."""
    ratio: float | None
    """Median of time over the reference's time in the same round; above 1 is slower. None for the reference."""
    ratio_low: float | None
    ratio_high: float | None


@dataclass(frozen=True)
class Row:
    """One task with all frameworks."""

    task: Task
    entries: list[Entry]
    standings: dict[str, Standing]
    """By framework, of those that were measured and computed the same."""


@dataclass(frozen=True)
class Participant:
    """A framework that was there."""

    framework: str
    about: dict[str, Any]
    affinity: list[int]
    """Cores that its process may use; empty where the system can't pin."""
    models: dict[str, dict[str, Any]]
    """Spec → digest, number, bytes and types of its weights, or `skipped` with the reason."""


@dataclass(frozen=True)
class Missing:
    """A framework that was left out."""

    framework: str
    reason: str
    advice: str


@dataclass(frozen=True)
class Check:
    """A condition of a fair comparison, and what was seen of it."""

    name: str
    subject: str
    """`operators`, a model, or empty for the whole run."""
    finding: Finding
    sentence: str
    seen: dict[str, str]
    """By framework."""
    apart: list[str]
    """Frameworks that do not meet it; where it says what is the same, those that are not like the reference."""


@dataclass(frozen=True)
class Across:
    """A run across frameworks."""

    machine: dict[str, Any]
    started: str
    wall_s: float
    kind: str
    threads: int
    rounds: int
    launches: int
    seed: int
    participants: list[Participant]
    missing: list[Missing]
    rows: list[Row]
    checks: list[Check]
    interrupted: bool = False
