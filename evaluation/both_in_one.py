"""One process that is both: `mlx_lm.benchmark`, and a sample of `mlx-velocity bench` before each of its trials.

bench_agrees.py starts it with the Python that is measured. `mlx_lm.benchmark` runs as it is, with its own options behind
ours; only its pause before a trial (`--delay`) is used for our turn, and we take the model that it loaded. Both have the same weights
in the same place, the same interpreter, allocator and GPU context, so what differs is the code that is timed. Nobody rests, and both
begin with an empty buffer cache: generate_step empties it behind a prompt, and would pay for what the other one left. Prints
its trials, and ours as JSON behind `ours`.

    python both_in_one.py '{"warm": […], "turn": {"prefill": …, "decode": …}}' --model FOLDER --delay 1 …
"""

from __future__ import annotations

import json
import sys
import time
from types import SimpleNamespace
from typing import Any

from mlx_velocity.probe import bench, compat, models


def main() -> None:
    """Let theirs go, with a turn of ours in each of its pauses."""
    from mlx_lm import benchmark as theirs

    asked = json.loads(sys.argv.pop(1))
    load, loaded = theirs.load, {}

    def load_for_both(*arguments: Any, **options: Any) -> Any:
        model, *rest = load(*arguments, **options)
        loaded["model"] = models.adopt(model)
        return model, *rest

    def turn(_delay_s: float) -> None:
        for request in asked.pop("warm", []):
            needed({**request, **loaded}, "seconds")
        compat.clear_cache()
        ours = {stage: needed({**request, **loaded}, "seconds") for stage, request in asked["turn"].items()}
        print("ours", json.dumps(ours), flush=True)
        compat.clear_cache()

    theirs.load = load_for_both
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
