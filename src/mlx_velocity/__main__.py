"""The program: one place that turns errors into a line and an exit code."""

from __future__ import annotations

import errno
import signal
import sys

from mlx_velocity.errors import InputError, Interrupted, VelocityError

DEBUG = "--debug"
BUG = 4


def program() -> None:
    """Run as a process of its own."""
    try:
        main()
    finally:
        # All is done and said: Ctrl-C while Python clears up changes nothing.
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def main() -> None:
    """Run the command line and exit; `--debug` anywhere shows where an error came from."""
    # What stands after -- is another program's.
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    ours, theirs = sys.argv[:cut], sys.argv[cut:]
    debug = DEBUG in ours
    sys.argv = [word for word in ours if word != DEBUG] + theirs
    try:
        # Inside, since Ctrl-C may come while modules are loaded.
        from mlx_velocity.cli import app

        app()
    except KeyboardInterrupt:
        stopped = Interrupted("interrupted", "run the same again")
        print(f"mlx-velocity: {stopped}", file=sys.stderr)
        sys.exit(stopped.exit_code)
    except Exception as error:
        if debug:
            raise
        known = explained(error)
        if known is None:
            text = " ".join(str(error).split())
            print(
                f"mlx-velocity: this is a bug: {type(error).__name__}: {text}; run again with {DEBUG} and report what it shows",
                file=sys.stderr,
            )
            sys.exit(BUG)
        print(f"mlx-velocity: {known}", file=sys.stderr)
        sys.exit(known.exit_code)


def explained(error: Exception) -> VelocityError | None:
    """The error as one that a user can act on; None for a mistake of ours."""
    if isinstance(error, VelocityError):
        return error
    if isinstance(error, ImportError) and "git executable" in str(error):
        # GitPython looks for git when it is imported.
        return InputError("git is missing", "install it, and see that it is on PATH")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
        where = f"{error.filename} can't be written" if error.filename else "a file can't be written"
        return InputError(
            f"{where}: {error.strerror}",
            "free some room or mend the rights, then run again: what is measured is kept",
        )
    return None


if __name__ == "__main__":
    program()
