"""The program: one place that turns errors into a line and an exit code."""

from __future__ import annotations

import sys

from mlx_velocity.errors import VelocityError

DEBUG = "--debug"
BUG = 4


def main() -> None:
    """Run the command line and exit; `--debug` anywhere shows where an error came from."""
    from mlx_velocity.cli import app

    debug = DEBUG in sys.argv
    sys.argv = [word for word in sys.argv if word != DEBUG]
    try:
        app()
    except VelocityError as error:
        if debug:
            raise
        print(f"mlx-velocity: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Exception as error:
        if debug:
            raise
        print(
            f"mlx-velocity: this is a bug: {type(error).__name__}: {error}; run again with {DEBUG} and report what it shows",
            file=sys.stderr,
        )
        sys.exit(BUG)


if __name__ == "__main__":
    main()
