"""One base error: it says what is wrong, what to do about it, and how the program exits."""

from __future__ import annotations


class VelocityError(Exception):
    """Something the user can act on.

    `message` says what is wrong and `advice` what to do; both are one line.
    `exit_code` is the process's exit status.
    """

    exit_code = 2

    def __init__(self, message: str, advice: str = "") -> None:
        self.message = " ".join(message.split())
        self.advice = " ".join(advice.split())
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}; {self.advice}" if self.advice else self.message


class InputError(VelocityError):
    """Wrong usage or wrong input: exit 2."""


class UndecidedError(VelocityError):
    """Nothing could be decided: exit 3."""

    exit_code = 3


class MeasurementError(VelocityError):
    """A benchmark or an environment failed: exit 4."""

    exit_code = 4


class EnvironmentFailure(MeasurementError):
    """An environment could not be made for a commit.

    `incompatible` is true where the requirements contradict each other or have no build for this
    platform: trying again would not help.
    """

    def __init__(self, message: str, advice: str = "", *, incompatible: bool = False) -> None:
        super().__init__(message, advice)
        self.incompatible = incompatible


class Interrupted(VelocityError):
    """The user ended it: exit 130."""

    exit_code = 130
