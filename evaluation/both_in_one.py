"""One process that is both: `mlx_lm.benchmark`, and a sample of `mlx-velocity bench` before each of its trials.

bench_agrees.py starts it with the Python that is measured. `mlx_lm.benchmark` runs as it is, with its own options behind
ours; only its pause before a trial (`--delay`) is used for our turn. Both have the same interpreter, allocator, GPU context and
luck with memory and cores, so what differs is the code that is timed. Prints its trials, and ours as JSON behind `ours`.

    python both_in_one.py '{"load": …, "warm": […], "turn": {"prefill": …, "decode": …}, "rest_s": 1}' --model FOLDER --delay 1 …
"""

from __future__ import annotations

import json
import sys
import time
from types import SimpleNamespace
from typing import Any

from mlx_velocity.probe import bench


def main() -> None:
    """Load and warm up our side, then let theirs go."""
    from mlx_lm import benchmark as theirs

    asked = json.loads(sys.argv.pop(1))
    needed(asked["load"], "model")
    for request in asked["warm"]:
        needed(request, "seconds")

    def turn(_delay_s: float) -> None:
        time.sleep(asked["rest_s"])
        ours = {stage: needed(request, "seconds") for stage, request in asked["turn"].items()}
        print("ours", json.dumps(ours), flush=True)
        time.sleep(asked["rest_s"])

    theirs.time = SimpleNamespace(**{**vars(time), "sleep": turn})
    theirs.main()


def needed(request: dict[str, Any], key: str) -> Any:
    """That part of our answer; ends the process with the reason where there is none."""
    answer = bench.answer(request)
    if key not in answer:
        sys.exit(f"mlx-velocity bench can't measure: {answer}")
    return answer[key]


if __name__ == "__main__":
    main()
