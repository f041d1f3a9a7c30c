"""Does `mlx-velocity bench` agree with `mlx_lm.benchmark` on the same model folder?

Shows: prefill and decode tokens/s as both commands print them, as a user runs them, and their ratio.
Goal: within 2 %.

How: both commands run as processes and take turns (ours, theirs, theirs, ours, and again); on a CPU all
are pinned to one core. The medians of their medians are compared. Like is compared with like:

prefill: `pp512` is the time from the ids of a prompt to its first token through generate_step, which is
    what `prompt_tps` is made from: same call, prompt length and prefill_step_size.
decode: their clock for `generation_tps` starts when the first token is out and stops when the last one is, and
    they divide all G tokens by it, although only G - 1 were made meanwhile: with G = n + 1 theirs is
    multiplied by n / (n + 1). Their first timed step writes behind a prompt of p tokens; ours has its first
    token and the step ahead behind it before the clock starts, so that a depth of p - 2 times the same
    positions of the cache: `tg128@d510` for p = 512.

It needs no network: the model is a folder with random weights, written here, or any other (--model).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from agree_with_mlx_lm import SHAPE, SPEC, Incomplete, output

from mlx_velocity import installed, requirements

GOAL = 0.02
"""How far the ratio may be from 1."""
QUIET = 0.9
"""Share of its core that each pinned process must have got for the numbers to mean much."""
STAGES = ("prefill", "decode")
STEP_SIZE = 2048
"""Both sides' prefill_step_size."""
WRITE = """
import json, sys
from pathlib import Path
from mlx_velocity.probe import folder, shapes
shapes.SHAPES.setdefault("agree", json.loads(sys.argv[3]))
folder.write(sys.argv[1], Path(sys.argv[2]))
"""

Rates = dict[str, float]


def main() -> int:
    """Measure, print, and return the exit code: 1 where the goal is missed in full mode, 4 where a side failed."""
    options = arguments()
    core = pin(options)
    python = installed.here(options.python)
    with tempfile.TemporaryDirectory(prefix="mlx-velocity-agree-") as place:
        variables = {**python.variables(), "HF_HUB_OFFLINE": "1"}
        try:
            model = options.model or Path(place) / options.spec
            if options.model is None:
                output(
                    [str(python.python), "-c", WRITE, options.spec, str(model), json.dumps(SHAPE)], variables
                )
            pairs, versions = interleaved(model, options, str(python.python), variables)
        except Incomplete as error:
            print(f"bench_agrees: {error}", file=sys.stderr)
            return 4
    report = summary(pairs, versions, options, core)
    show(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0 if report["met"] or options.quick else 1


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--spec",
        help="shape and dtype of the model that is written (4 layers × 512 on a CPU, else llama-3.2-1b-bfloat16)",
    )
    parser.add_argument("--model", type=Path, help="folder of a model in mlx_lm's format, instead")
    parser.add_argument(
        "--python", type=Path, help="interpreter or virtual environment whose MLX both sides measure"
    )
    parser.add_argument(
        "--backend", default="auto", help="cpu, metal or cuda: what that Python's MLX computes on"
    )
    parser.add_argument("-p", "--prompt-tokens", type=int, default=512)
    parser.add_argument("-n", "--generation-tokens", type=int, default=128)
    parser.add_argument(
        "--samples", type=int, default=5, help="samples of ours, trials of theirs per process"
    )
    parser.add_argument("--blocks", type=int, default=4, help="a block is ours, theirs, theirs, ours")
    parser.add_argument("--quick", action="store_true", help="one block of a tiny model; judges nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found as JSON")
    options = parser.parse_args()
    if options.quick:
        options.prompt_tokens, options.generation_tokens, options.samples, options.blocks = 64, 16, 2, 1
        options.spec = options.spec or "tiny-float32"
    if min(options.prompt_tokens - 1, options.generation_tokens, options.samples, options.blocks) < 1:
        parser.error(
            "a prompt needs at least two tokens, an answer one token, a process one sample, a run one block"
        )
    return options


def pin(options: argparse.Namespace) -> int | None:
    """Pin this process and all that it starts to one core where mlx computes on a CPU; choose the model's size."""
    on_cpu = requirements.backend_here(options.backend) == "cpu"
    options.spec = options.spec or (SPEC if on_cpu else "llama-3.2-1b-bfloat16")
    if not on_cpu or not hasattr(os, "sched_setaffinity"):
        return None
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, [core])
    return core


def interleaved(
    model: Path, options: argparse.Namespace, python: str, variables: dict[str, str]
) -> tuple[list[tuple[Rates, Rates]], dict[str, str]]:
    """Tokens per second of both sides, a pair for each two processes that ran side by side; and the versions."""
    pairs: list[tuple[Rates, Rates]] = []
    versions: dict[str, str] = {}
    for number in range(2 * options.blocks):
        sides: dict[str, Rates] = {}
        for side in ("ours", "theirs") if number % 2 == 0 else ("theirs", "ours"):
            if side == "ours":
                sides[side], versions = measure_ours(model, options, python)
            else:
                sides[side] = measure_theirs(model, options, python, variables)
        pairs.append((sides["ours"], sides["theirs"]))
        text = ", ".join(
            f"{stage} {sides['ours'][stage]:.1f} and {sides['theirs'][stage]:.1f} tokens/s"
            for stage in STAGES
        )
        print(f"  pair {number + 1} of {2 * options.blocks}: ours and theirs, {text}", flush=True)
    return pairs, versions


def measure_ours(model: Path, options: argparse.Namespace, python: str) -> tuple[Rates, dict[str, str]]:
    """Median tokens per second of one call of `mlx-velocity bench`, and the versions that it measured."""
    depth = options.prompt_tokens - 2
    command = [sys.executable, "-m", "mlx_velocity", "bench", f"path:{model}", "--python", python]
    command += ["-p", str(options.prompt_tokens), "-n", str(options.generation_tokens), "-d", f"0,{depth}"]
    command += ["-r", str(options.samples), "-o", "json", "--quiet"]
    text, share = output(command, {**os.environ, "HF_HUB_OFFLINE": "1"})
    run = json.loads(text)
    tests = {row["test"]: row for row in run["rows"]}
    at_depth = f"@d{depth}" if depth else ""
    names = {"prefill": f"pp{options.prompt_tokens}", "decode": f"tg{options.generation_tokens}{at_depth}"}
    rates = {}
    for stage, name in names.items():
        row = tests.get(name, {"samples": [], "reason": "it is missing"})
        if not row["samples"]:
            raise Incomplete(f"mlx-velocity bench has no {name}: {row['reason']}")
        rates[stage] = median(row["trial"]["tokens"] / seconds for seconds in row["samples"])
    return {**rates, "cpu_share": share}, run["modules"]


def measure_theirs(model: Path, options: argparse.Namespace, python: str, variables: dict[str, str]) -> Rates:
    """Median tokens per second of the trials of one process of `mlx_lm.benchmark`."""
    made = options.generation_tokens
    command = [python, "-m", "mlx_lm.benchmark", "--model", str(model)]
    command += ["--prompt-tokens", str(options.prompt_tokens), "--generation-tokens", str(made + 1)]
    command += ["--prefill-step-size", str(STEP_SIZE), "--num-trials", str(options.samples)]
    text, share = output(command, variables)
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


def summary(
    pairs: list[tuple[Rates, Rates]], versions: dict[str, str], options: argparse.Namespace, core: int | None
) -> dict[str, Any]:
    """All that is printed."""
    stages = {stage: compared(pairs, stage) for stage in STAGES}
    return {
        "quick": options.quick,
        "versions": versions,
        "model": options.model.name if options.model else options.spec,
        "core": core,
        "load_1m": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "prompt_tokens": options.prompt_tokens,
        "decoded_tokens": options.generation_tokens,
        "processes_per_side": len(pairs),
        "samples_per_process": options.samples,
        "stages": stages,
        # Of theirs alone: ours is two processes, one of which waits.
        "least_cpu_share": min(theirs["cpu_share"] for _, theirs in pairs),
        "goal": GOAL,
        "met": all(abs(stage["ratio"] - 1) <= GOAL for stage in stages.values()),
    }


def compared(pairs: list[tuple[Rates, Rates]], stage: str) -> dict[str, Any]:
    """The medians of both sides over their processes, and the ratio."""
    ours, theirs = median(pair[0][stage] for pair in pairs), median(pair[1][stage] for pair in pairs)
    return {
        "ours_tokens_per_s": ours,
        "theirs_tokens_per_s": theirs,
        "ratio": ours / theirs,
        "ratios_of_pairs": [pair[0][stage] / pair[1][stage] for pair in pairs],
    }


def show(report: dict[str, Any]) -> None:
    """Print it for a reader."""
    where = "free" if report["core"] is None else f"pinned to core {report['core']}"
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    print(
        f"\n{report['model']}, {versions}, {where}, {report['prompt_tokens']} prompt tokens, "
        f"{report['decoded_tokens']} decoded, {report['processes_per_side']} processes a side "
        f"with {report['samples_per_process']} samples each"
    )
    print(f"{'':10}{'ours':>12}{'mlx_lm':>12}{'ratio':>9}   pairs from … to")
    for name, row in report["stages"].items():
        spread = row["ratios_of_pairs"]
        rates = f"{row['ours_tokens_per_s']:12.1f}{row['theirs_tokens_per_s']:12.1f}{row['ratio']:9.4f}"
        print(f"{name:10}{rates}   {min(spread):.4f} … {max(spread):.4f}")
    if report["core"] is not None and report["least_cpu_share"] < QUIET:
        print(
            f"DISTURBED: a process got {report['least_cpu_share']:.0%} of its core; run again on a quiet machine"
        )
    verdict = "not judged in quick mode" if report["quick"] else "met" if report["met"] else "not met"
    print(f"goal: prefill and decode within {GOAL:.0%}: {verdict}")


if __name__ == "__main__":
    sys.exit(main())
