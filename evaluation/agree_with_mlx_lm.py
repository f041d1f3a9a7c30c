"""Do our tokens per second agree with those of `mlx_lm.benchmark` on the same model folder?

Shows: prefill and decode tokens/s as our workloads measure them, as mlx_lm's own command does, and
their ratio. Goal: within 3 %.

How: a process of ours and one of theirs take turns (ours, theirs, theirs, ours, and again), all
pinned to one core, and the medians of their medians are compared. Ours is sampled by the code that
samples every case (probe/measure.py). Like is compared with like:

prefill: their `prompt_tps` is the prompt's length over the time that generate_step takes to its first
    token. That is our `FirstToken`: same call, prompt length, prefill_step_size, greedy sampler. Our
    `Prefill` is another quantity and only shown: it goes in chunks of 512 and computes the logits of
    the whole last chunk, where generate_step computes those of the last token alone.
decode: their clock for `generation_tps` starts when the first token is out and stops when the last is,
    and they divide all G tokens by it, although only G - 1 were made meanwhile. With G = 33 it is the
    time of 32 steps, which our `Decode` times as well, so theirs is multiplied by 32/33. Their first
    timed step writes behind a prompt of P tokens. Ours has its first token and the step ahead behind
    it before the clock starts, so that a depth of P - 2 times the same positions of the cache.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from mlx_velocity import requirements
from mlx_velocity.probe import folder, shapes, workloads

GOAL = 0.03
"""How far the ratio may be from 1."""
QUIET = 0.9
"""Share of its core that each process must have got for the numbers to mean much."""

SPEC = "agree-float32"
SHAPE = {
    **shapes.SHAPES["tiny"],
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
}
"""The model where none is named: 4 layers × 512. Its steps take milliseconds, and so are less noisy than tiny's."""

STAGES = ("prefill", "decode")
HELD = {"prefill": "time_first_token", "decode": "time_decode"}
"""Which of our cases is held to the goal for each stage."""

SUITE = """
from mlx_velocity.probe import workloads
from mlx_velocity.probe.case import Case

class Held(Case):
    # `folder` and `tokens` beside no `model`: profiles do not apply.
    param_names = ("folder",)
    params = ([{spec!r}],)
    repeat = {samples}
    timeout = 3600.0

class FirstToken(Held):
    workload = staticmethod(lambda folder: workloads.FirstToken(folder, {prompt}))

    def time_first_token(self, folder):
        self.run()

class Prefill(Held):
    workload = staticmethod(lambda folder: workloads.Prefill(folder, {prompt}))

    def time_prefill(self, folder):
        self.run()

class Decode(Held):
    workload = staticmethod(lambda folder: workloads.Decode(folder, {prompt} - 2))

    def time_decode(self, folder):
        self.run()
"""

OURS = """
import json, sys
from mlx_velocity.probe import measure
names = ("FirstToken.time_first_token", "Prefill.time_prefill", "Decode.time_decode")
samples = {name.partition(".")[2]: measure.measure(sys.argv[1], f"suite.{name}", 0)["samples"] for name in names}
print(json.dumps(samples))
"""

Rates = dict[str, float]


class Incomplete(Exception):
    """A side that did not measure."""


def main() -> int:
    """Measure, print, and return the exit code: 1 where the goal is missed in full mode, 4 where a side failed."""
    options = arguments()
    core = pin()
    with tempfile.TemporaryDirectory(prefix="mlx-velocity-agree-") as place:
        model = options.model or write_model(Path(place) / "model", options.quick)
        suite = write_suite(Path(place), model, options)
        try:
            pairs = interleaved(suite, model, options)
        except Incomplete as error:
            print(f"agree_with_mlx_lm: {error}", file=sys.stderr)
            return 4
    report = summary(pairs, options, core)
    show(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0 if report["met"] or options.quick else 1


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="folder of a model in mlx_lm's format, instead of our own")
    parser.add_argument("--prompt-tokens", type=int, default=256)
    parser.add_argument(
        "--samples", type=int, default=5, help="samples of ours, trials of theirs per process"
    )
    parser.add_argument("--blocks", type=int, default=4, help="a block is ours, theirs, theirs, ours")
    parser.add_argument("--quick", action="store_true", help="one block of a tiny model; judges nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found as JSON")
    options = parser.parse_args()
    if options.quick:
        options.prompt_tokens, options.samples, options.blocks = 64, 2, 1
    if options.prompt_tokens < 2 or options.samples < 1 or options.blocks < 1:
        parser.error("a prompt needs two tokens, a process one sample, a run one block")
    return options


def pin() -> int | None:
    """Pin this process and all that it starts to the core of a CPU series (scheduler.cores); else None."""
    if requirements.backend_here("auto") != "cpu" or not hasattr(os, "sched_setaffinity"):
        return None
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, [core])
    return core


def write_model(path: Path, quick: bool) -> Path:
    """A model folder with random weights."""
    shapes.SHAPES["agree"] = SHAPE
    return folder.write("tiny-float32" if quick else SPEC, path)


def write_suite(place: Path, model: Path, options: argparse.Namespace) -> Path:
    """Our side: benchmark classes of the three workloads on that folder."""
    suite = place / "suite_of_agree"
    suite.mkdir()
    (suite / "__init__.py").touch()
    text = SUITE.format(spec=f"path:{model.resolve()}", samples=options.samples, prompt=options.prompt_tokens)
    (suite / "suite.py").write_text(text, encoding="utf-8")
    return suite


def interleaved(suite: Path, model: Path, options: argparse.Namespace) -> list[tuple[Rates, Rates]]:
    """Tokens per second of both sides, a pair for each two processes that ran side by side."""
    pairs: list[tuple[Rates, Rates]] = []
    for number in range(2 * options.blocks):
        if number % 2 == 0:
            ours = measure_ours(suite, options)
            theirs = measure_theirs(model, options)
        else:
            theirs = measure_theirs(model, options)
            ours = measure_ours(suite, options)
        pairs.append((ours, theirs))
        text = ", ".join(
            f"{stage} {ours[HELD[stage]]:.1f} and {theirs[stage]:.1f} tokens/s" for stage in STAGES
        )
        print(f"  pair {number + 1} of {2 * options.blocks}: ours and theirs, {text}", flush=True)
    return pairs


def measure_ours(suite: Path, options: argparse.Namespace) -> Rates:
    """Median tokens per second of each of our cases in one process."""
    text, share = output([sys.executable, "-c", OURS, str(suite)])
    samples = json.loads(text.splitlines()[-1])
    tokens = {"time_decode": workloads.DECODE_TOKENS}
    rates = {name: tokens.get(name, options.prompt_tokens) / median(taken) for name, taken in samples.items()}
    return {**rates, "cpu_share": share}


def measure_theirs(model: Path, options: argparse.Namespace) -> Rates:
    """Median tokens per second of the trials of one process of `mlx_lm.benchmark`."""
    made = workloads.DECODE_TOKENS
    command = [sys.executable, "-m", "mlx_lm.benchmark", "--model", str(model)]
    command += ["--prompt-tokens", str(options.prompt_tokens), "--generation-tokens", str(made + 1)]
    command += ["--prefill-step-size", str(workloads.PREFILL_STEP_SIZE), "--num-trials", str(options.samples)]
    text, share = output(command)
    trials = re.findall(r"^Trial +\d+: +prompt_tps=([\d.]+), generation_tps=([\d.]+)", text, re.MULTILINE)
    if len(trials) != options.samples:
        raise Incomplete(
            f"mlx_lm.benchmark printed {len(trials)} trials instead of {options.samples}:\n{text}"
        )
    return {
        "prefill": median(float(prefill) for prefill, _ in trials),
        "decode": median(float(decode) for _, decode in trials) * made / (made + 1),
        "cpu_share": share,
    }


def output(command: list[str], variables: dict[str, str] | None = None) -> tuple[str, float]:
    """What a process prints, and its processor time over its wall time; raises Incomplete where it fails."""
    began, used = time.monotonic(), children_s()
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        last = "\n".join(done.stderr.splitlines()[-20:])
        raise Incomplete(f"exit {done.returncode} of {' '.join(command[1:3])}:\n{last}")
    return done.stdout, (children_s() - used) / (time.monotonic() - began)


def children_s() -> float:
    """Processor seconds of all processes that were started here and have ended."""
    times = os.times()
    return times.children_user + times.children_system


def summary(
    pairs: list[tuple[Rates, Rates]], options: argparse.Namespace, core: int | None
) -> dict[str, Any]:
    """All that is printed."""
    stages = {stage: compared(pairs, HELD[stage], stage) for stage in STAGES}
    return {
        "quick": options.quick,
        "versions": {name: version(name) for name in ("mlx", "mlx-lm")},
        "model": options.model.name if options.model else ("tiny-float32" if options.quick else "4 layers × 512, float32"),
        "core": core,
        "load_1m": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "prompt_tokens": options.prompt_tokens,
        "decoded_tokens": workloads.DECODE_TOKENS,
        "processes_per_side": len(pairs),
        "samples_per_process": options.samples,
        "stages": stages,
        "shown_only": {"prefill.Prefill": compared(pairs, "time_prefill", "prefill")},
        # Pinned to a core and always computing, a process of either side has nothing to wait for.
        "least_cpu_share": min(rates["cpu_share"] for pair in pairs for rates in pair),
        "goal": GOAL,
        "met": all(abs(stage["ratio"] - 1) <= GOAL for stage in stages.values()),
    }  # fmt: skip


def compared(pairs: list[tuple[Rates, Rates]], ours: str, theirs: str) -> dict[str, Any]:
    """The medians of both sides over their processes, and the ratio."""
    left, right = median(pair[0][ours] for pair in pairs), median(pair[1][theirs] for pair in pairs)
    return {
        "ours_tokens_per_s": left,
        "theirs_tokens_per_s": right,
        "ratio": left / right,
        "ratios_of_pairs": [pair[0][ours] / pair[1][theirs] for pair in pairs],
    }


def show(report: dict[str, Any]) -> None:
    """Print it for a reader."""
    where = "free" if report["core"] is None else f"pinned to core {report['core']}"
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    print(f"\n{report['model']}, {versions}, {where}, {report['prompt_tokens']} prompt tokens, "
          f"{report['decoded_tokens']} decoded, {report['processes_per_side']} processes a side "
          f"with {report['samples_per_process']} samples each")  # fmt: skip
    rows = [*report["stages"].items(), *report["shown_only"].items()]
    print(f"{'':18}{'ours':>12}{'mlx_lm':>12}{'ratio':>9}   pairs from … to")
    for name, row in rows:
        spread = row["ratios_of_pairs"]
        print(f"{name:18}{row['ours_tokens_per_s']:12.1f}{row['theirs_tokens_per_s']:12.1f}{row['ratio']:9.4f}"
              f"   {min(spread):.4f} … {max(spread):.4f}")  # fmt: skip
    print("tokens/s; prefill.Prefill does more (see --help) and is not compared")
    if report["core"] is not None and report["least_cpu_share"] < QUIET:
        print(
            f"DISTURBED: a process got {report['least_cpu_share']:.0%} of its core; run again on a quiet machine"
        )
    verdict = "met" if report["met"] else "not met"
    print(
        f"goal: prefill and decode within {GOAL:.0%}: {'not judged in quick mode' if report['quick'] else verdict}"
    )


if __name__ == "__main__":
    sys.exit(main())
