"""The plain records of a profile: where the time of one stage went, part by part and launch by launch.

`Header` and `Launch` are the lines of a profile file (profiles.py). `Share` and `Growth` are derived
from them (shares.py) and can always be made again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from mlx_velocity.records import Environment

FORMAT = 1
"""Version of the profile file and of the JSON that `profile --json` writes. 1: first version."""

Stage = Literal["prefill", "decode", "lora"]
STAGES: tuple[Stage, ...] = ("prefill", "decode", "lora")
By = Literal["kind", "part", "layer"]
Change = Literal["grew", "shrank", "not shown", "only base", "only head"]


@dataclass(frozen=True)
class Task:
    """What is profiled: a stage of a model."""

    model: str
    stage: Stage
    tokens: int
    """Of the prompt, or of the LoRA step."""
    depth: int
    """Tokens in the cache when a decode begins."""
    generate: int
    """Tokens of a decode."""

    @property
    def label(self) -> str:
        """What a reader sees: `a decode step of tiny-float32 at depth 0`."""
        return {
            "prefill": f"a prefill of {self.tokens:,} tokens through {self.model}",
            "decode": f"a decode step of {self.model} at depth {self.depth:,}",
            "lora": f"a LoRA step of {self.tokens:,} tokens on {self.model}",
        }[self.stage]

    @property
    def key(self) -> str:
        """What is in the name of a file: `decode-tiny-float32-d0-n8`."""
        size = f"d{self.depth}-n{self.generate}" if self.stage == "decode" else f"p{self.tokens}"
        return f"{self.stage}-{self.model}-{size}"


@dataclass(frozen=True)
class Header:
    """First line of a profile file: what was profiled, where, of which commit."""

    kind: ClassVar[str] = "profile"
    track: str
    machine: str
    backend: str
    name: str
    """As the user named the commit, version or working tree."""
    commit: str
    """Full hash; empty for a working tree, a set of versions, or what is installed."""
    subject: str
    environment: Environment
    task: Task
    started: str
    """UTC, ISO 8601."""
    together: str = ""
    """Shared by the two sides of one `profile --diff`, whose launches are pairs; else empty."""


@dataclass(frozen=True)
class Part:
    """The times of one part in one launch."""

    name: str
    """Its path in the model: `model.layers.3.self_attn.q_proj`."""
    kind: str
    """What it is in every layer and model: `q/k/v projections`."""
    layer: int | None
    self_s: list[list[float]]
    """Seconds of each call in each repetition, without the parts inside of it."""
    total_s: list[float]
    """Seconds of all calls of each repetition, parts inside of it included."""


@dataclass(frozen=True)
class Launch:
    """What one worker process saw."""

    kind: ClassVar[str] = "launch"
    number: int
    """From 1; in a `--diff` the same on both sides for the two that took turns."""
    started: str
    affinity: list[int]
    """Cores the worker was pinned to; empty where it was free."""
    versions: dict[str, str]
    """Of mlx and mlx_lm, as they say themselves."""
    steps: int
    """Equal steps in one repetition, such as the tokens of a decode."""
    unprofiled: list[float]
    """Seconds of each repetition as it is normally."""
    profiled: list[float]
    """Seconds of each repetition part by part: what the self times of its parts add up to."""
    parts: list[Part]
    floor_s: float
    """Seconds that a part takes which computes next to nothing."""
    same_result: bool
    """Whether the model generated the same tokens (or loss) part by part as it does normally."""
    notes: dict[str, Any] = field(default_factory=dict)
    sensors: dict[str, Any] = field(default_factory=dict)
    disturbed: str = ""
    """Why this launch is not used; empty where it is."""


@dataclass(frozen=True)
class Profile:
    """All that a profile file holds."""

    header: Header
    launches: list[Launch]

    @property
    def used(self) -> list[Launch]:
        """The launches that count: undisturbed ones, or all where there is no other."""
        return [item for item in self.launches if not item.disturbed] or self.launches


@dataclass(frozen=True)
class Share:
    """The part that something has in the time of one step. Shares of one profile add up to it."""

    name: str
    kind: str
    layer: int | None
    calls: float
    """In one step."""
    self_s: float
    """Seconds in one step without the parts inside: median over repetitions, then over launches."""
    total_s: float
    """Seconds in one step, parts inside included; of a kind or a layer the same as `self_s`."""
    share: float
    """Of the profiled time, 0 to 1."""

    @property
    def mean_s(self) -> float:
        """Seconds of one call."""
        return self.self_s / self.calls if self.calls else 0.0


@dataclass(frozen=True)
class Times:
    """The whole of one step."""

    profiled_s: float
    """Median over repetitions, then over launches: but for noise what all shares add up to."""
    unprofiled_s: float
    floor_s: float

    @property
    def ratio(self) -> float:
        """How much longer it takes part by part."""
        return self.profiled_s / self.unprofiled_s


@dataclass(frozen=True)
class Growth:
    """What became of one part between base and head, in seconds of one step."""

    name: str
    kind: str
    layer: int | None
    change: Change
    base_s: float | None
    """None where the side has no such part."""
    head_s: float | None
    difference_s: float
    low_s: float | None
    """Interval of the difference over pairs of launches; None where there are too few of them."""
    high_s: float | None
    share: float
    """Difference as a share of the base's profiled time."""
    p: float
    """Chance of such a difference between equal sides, adjusted for all that were looked at."""


@dataclass(frozen=True)
class Breakdown:
    """All that a reader is shown of one profile."""

    profile: Profile
    times: Times
    kinds: list[Share]
    parts: list[Share]
    layers: list[Share]


@dataclass(frozen=True)
class Difference:
    """All that a reader is shown of two profiles that were taken together."""

    base: Breakdown
    head: Breakdown
    pairs: int
    """Pairs of launches that count."""
    disturbed_used: bool
    """Whether disturbed pairs count too, because the others are too few."""
    error_rate: float
    """Of the rows that are called, the share that is expected to be noise at most."""
    same_result: bool | None
    """Whether both sides generate the same tokens, or end with the same loss; None where neither is known."""
    kinds: list[Growth]
    parts: list[Growth]
    layers: list[Growth]
