"""What is wrong with stored files, as plain records."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

FORMAT = 1
"""Version of the JSON that `validate --json` writes. 1: first version."""

Severity = Literal["wrong", "note"]


@dataclass(frozen=True)
class Problem:
    """One thing about one file. A `note` is worth knowing, and nothing is broken by it."""

    file: str
    """Path as the reader named it, or relative to the track."""
    reason: str
    advice: str
    line: int | None = None
    """From 1; None where the file has no lines of its own, or as a whole is meant."""
    severity: Severity = "wrong"


@dataclass
class Checked:
    """All that was looked at, and what was found."""

    files: dict[str, int] = field(default_factory=dict)
    """Format → number of files."""
    problems: list[Problem] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    """What could not be looked at here, each with its reason: a sentence."""

    @property
    def wrong(self) -> list[Problem]:
        """The problems that somebody must mend."""
        return [item for item in self.problems if item.severity == "wrong"]

    @property
    def exit_code(self) -> int:
        """0 where nothing is wrong, 2 otherwise."""
        return 2 if self.wrong else 0
