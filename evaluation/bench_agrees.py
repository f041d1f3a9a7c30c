"""Does `mlx-velocity bench` agree with `mlx_lm.benchmark` on the same model folder?

Shows: prefill and decode tokens/s of both, turn about, and their ratio. Goal: within 2 %.

How: a worker of `bench` and a process of `python -m mlx_lm.benchmark` are alive at once and take turns: a trial of
theirs, then one of ours while theirs is stopped (SIGSTOP in the second that its own option `--delay` waits before each
trial), and so on. Each turn of ours is held against the trial of theirs before it, and against the one after it: the ratio is the
median of either, both averaged, so that whatever slows a shared machine for longer than a turn cancels. One turn against the
mean of two trials would not do: where noise is skewed, the median of that is off by a per cent although both sides are equal.
Several launches of each, since a process biases all that it measures. On a CPU all are pinned to one core. Like is
compared with like:

a trial: the first work after a second at rest is slower (clocks, caches, a GPU's change of process), so that the machine
    rests for as long before each turn, ours or theirs, and a turn is one prefill and one decode in theirs' order. In one
    process nobody rests: it alone keeps the machine busy;

a process: on a GPU each one has its own luck with cores and memory, by ten per cent where the host is busy, and changing
    contexts costs the first kernel; so both can run in one instead (--one-process, both_in_one.py): theirs as it is, and ours in
    the pauses that it makes, with the model that it loaded. What two processes make of it is the other figure;

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
import dataclasses
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

from agree_with_mlx_lm import SHAPE, SPEC, Incomplete, output
from scipy.stats import quantile_test

from mlx_velocity import installed, requirements
from mlx_velocity.bench import Trial
from mlx_velocity.workers import LocalWorker, WorkerError

GOAL = 0.02
"""How far the ratio may be from 1."""
STAGES = ("prefill", "decode")
STEP_SIZE = 2048
"""Both sides' prefill_step_size."""
DELAY_S = 1
"""The machine rests so long before each trial of either; theirs is stopped meanwhile and for ours."""
LIMIT_S = 1800.0
WRITE = """
import json, sys
from pathlib import Path
from mlx_velocity.probe import folder, shapes
shapes.SHAPES.setdefault("agree", json.loads(sys.argv[3]))
folder.write(sys.argv[1], Path(sys.argv[2]))
"""

Rates = dict[str, float]


class Turn(NamedTuple):
    """Tokens per second of each stage."""

    ours: Rates
    before: Rates
    """Of the trial of theirs before ours."""
    after: Rates


class Ratio(NamedTuple):
    """Ours / theirs, with an interval that holds it at 95 %."""

    value: float
    low: float
    high: float


def main() -> int:
    """Measure, print, and return the exit code: 1 where the goal is missed in full mode, 4 where a side failed.

    Ctrl-C ends with 130. What was measured until then is printed and kept, as where a side failed; it judges nothing.
    """
    options = arguments()
    core = pin(options)
    python = installed.here(options.python, options.backend)
    launches: list[list[Turn]] = []
    ended = 0
    with tempfile.TemporaryDirectory(prefix="mlx-velocity-agree-") as place:
        variables = {**python.variables(), "HF_HUB_OFFLINE": "1"}
        try:
            model = options.model or Path(place) / options.spec
            if options.model is None:
                command = [str(python.python), "-c", WRITE, options.spec, str(model), json.dumps(SHAPE)]
                output(command, variables)
            for number in range(options.launches):
                alternate = in_one_process if options.one_process else in_two_processes
                turns, versions = alternate(model.absolute(), options, python)
                launches.append(turns)
                told = ", ".join(f"{stage} {ratio(turns, stage).value:.4f}" for stage in STAGES)
                print(f"  launch {number + 1} of {options.launches}: ours / theirs, {told}", flush=True)
        except (Incomplete, WorkerError) as error:
            print(f"bench_agrees: {error}", file=sys.stderr)
            ended = 4
        except KeyboardInterrupt:
            print(f"bench_agrees: interrupted in launch {len(launches) + 1}", file=sys.stderr)
            ended = 130
    if not launches:
        return ended
    report = summary(launches, versions, options, core)
    show(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return ended or (1 if report["met"] is False else 0)


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
    parser.add_argument("--trials", type=int, default=12, help="trials of theirs per launch")
    parser.add_argument("--launches", type=int, default=4, help="times that both processes are started")
    parser.add_argument(
        "--one-process", action="store_true", help="both take turns within one process, new for each launch"
    )
    parser.add_argument("--quick", action="store_true", help="a short launch of a tiny model; judges nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found as JSON")
    options = parser.parse_args()
    if options.quick:
        options.prompt_tokens, options.generation_tokens, options.trials, options.launches = 64, 16, 4, 1
        options.spec = options.spec or "tiny-float32"
    if min(options.prompt_tokens - 1, options.generation_tokens, options.trials - 3, options.launches) < 1:
        parser.error(
            "a prompt needs at least two tokens, an answer one token, a launch four trials, a run one launch"
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


def in_one_process(
    model: Path, options: argparse.Namespace, python: installed.Installed
) -> tuple[list[Turn], dict[str, str]]:
    """The same, where one process is both."""
    worker = LocalWorker(python, {"HF_HUB_OFFLINE": "1"})
    try:
        versions = versions_of(worker, model)
    finally:
        worker.close()
    asked = {
        "warm": [sample_of(stage, model, options, warm=True) for stage in STAGES],
        "turn": {stage: sample_of(stage, model, options) for stage in STAGES},
    }
    # Their command without `python -m mlx_lm.benchmark`: the rest are its options.
    theirs = command_of_theirs(model, options, python)[3:]
    command = [
        str(python.python),
        str(Path(__file__).with_name("both_in_one.py")),
        json.dumps(asked),
        *theirs,
    ]
    text, _ = output(command, {**python.variables(), "HF_HUB_OFFLINE": "1"})
    # Our first turn comes before their first trial, the others between two.
    _, *ours = [json.loads(found) for found in re.findall(r"^ours (.*)$", text, re.MULTILINE)]
    trials = [rates for line in text.splitlines() if (rates := trial_of(line, options))]
    if (len(trials), len(ours)) != (options.trials, options.trials - 1):
        raise Incomplete(f"{len(trials)} trials and {len(ours)} turns instead of {options.trials}:\n{text}")
    rates = [{stage: tokens(stage, options) / seconds[stage] for stage in STAGES} for seconds in ours]
    turns = [Turn(*turn) for turn in zip(rates, trials[:-1], trials[1:], strict=True)]
    return turns, versions


def in_two_processes(
    model: Path, options: argparse.Namespace, python: installed.Installed
) -> tuple[list[Turn], dict[str, str]]:
    """Tokens per second of each turn of ours and of the trials of theirs around it; and the versions."""
    worker = LocalWorker(python, {"HF_HUB_OFFLINE": "1"})
    try:
        versions = ready(worker, model, options)
        theirs = subprocess.Popen(
            command_of_theirs(model, options, python), env={**python.variables(), "HF_HUB_OFFLINE": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            before, turns = next_trial(theirs, options), []
            for _ in range(options.trials - 1):
                theirs.send_signal(signal.SIGSTOP)
                ours = our_turn(worker, model, options)
                theirs.send_signal(signal.SIGCONT)
                after = next_trial(theirs, options)
                turns.append(Turn(ours, before, after))
                before = after
        finally:
            theirs.kill()
            theirs.communicate()
    finally:
        worker.close()
    return turns, versions


def ready(worker: LocalWorker, model: Path, options: argparse.Namespace) -> dict[str, str]:
    """Load the model on our side and warm both stages up; returns the versions that are measured."""
    versions = versions_of(worker, model)
    asked(worker, {"do": "load", "model": f"path:{model}"}, "model")
    for stage in STAGES:
        asked(worker, sample_of(stage, model, options, warm=True), "seconds")
    return versions


def versions_of(worker: LocalWorker, model: Path) -> dict[str, str]:
    """What is measured."""
    named = {"models": [f"path:{model}"], "dtypes": [], "draft": ""}
    return dict(asked(worker, {"do": "plan", **named}, "modules")["modules"])


def sample_of(stage: str, model: Path, options: argparse.Namespace, warm: bool = False) -> dict[str, Any]:
    """The message that takes a sample of a stage, as `bench` sends it."""
    depth = options.prompt_tokens - 2 if stage == "decode" else 0
    trial = Trial(stage, tokens(stage, options), depth)  # type: ignore[arg-type]
    named = {"model": f"path:{model}", "trial": dataclasses.asdict(trial), "text": ""}
    return {"do": "sample", "warm": warm, **named}


def tokens(stage: str, options: argparse.Namespace) -> int:
    """Tokens that a sample of a stage handles."""
    return int(options.prompt_tokens if stage == "prefill" else options.generation_tokens)


def asked(worker: LocalWorker, message: dict[str, Any], key: str) -> dict[str, Any]:
    """The worker's answer, which has `key`; raises Incomplete with the reason where it has not."""
    answer = worker.request({"op": "bench", **message}, LIMIT_S)
    if key not in answer:
        raise Incomplete(f"mlx-velocity bench can't measure: {answer}")
    return answer


def our_turn(worker: LocalWorker, model: Path, options: argparse.Namespace) -> Rates:
    """Tokens per second of one sample of each stage, with a rest before it and after it: theirs begins right after it."""
    time.sleep(DELAY_S)
    seconds = {
        stage: asked(worker, sample_of(stage, model, options), "seconds")["seconds"] for stage in STAGES
    }
    # Their own delay is over by then: a process that is stopped sleeps on.
    time.sleep(DELAY_S)
    return {stage: tokens(stage, options) / float(seconds[stage]) for stage in STAGES}


def command_of_theirs(model: Path, options: argparse.Namespace, python: installed.Installed) -> list[str]:
    """mlx_lm's own command, as a user calls it."""
    command = [str(python.python), "-m", "mlx_lm.benchmark", "--model", str(model), "--delay", str(DELAY_S)]
    command += ["--prompt-tokens", str(options.prompt_tokens), "--prefill-step-size", str(STEP_SIZE)]
    command += [
        "--generation-tokens",
        str(options.generation_tokens + 1),
        "--num-trials",
        str(options.trials),
    ]
    return command


def next_trial(theirs: subprocess.Popen[str], options: argparse.Namespace) -> Rates:
    """Tokens per second of the next trial that it prints; raises Incomplete where it ends instead."""
    assert theirs.stdout is not None
    for line in theirs.stdout:
        if rates := trial_of(line, options):
            return rates
    _, said = theirs.communicate()
    raise Incomplete(
        f"mlx_lm.benchmark ended with {theirs.returncode}:\n" + "\n".join(said.splitlines()[-20:])
    )


def trial_of(line: str, options: argparse.Namespace) -> Rates | None:
    """Tokens per second of the trial that a line of theirs tells, over as many tokens as ours."""
    found = re.match(r"Trial +\d+: +prompt_tps=([\d.]+), generation_tps=([\d.]+)", line)
    if not found:
        return None
    made = options.generation_tokens
    return {"prefill": float(found[1]), "decode": float(found[2]) * made / (made + 1)}


def ratio(turns: list[Turn], stage: str) -> Ratio:
    """Ours / theirs: the median over turns against the trial before each, and against the one after, both averaged."""
    both = [
        [math.log(turn.ours[stage] / theirs[stage]) for turn, theirs in pairs]
        for pairs in ([(turn, turn.before) for turn in turns], [(turn, turn.after) for turn in turns])
    ]
    ends = [quantile_test(logs).confidence_interval(0.95) for logs in both]
    # Fewer than six turns say nothing of a median: all that was seen is its interval.
    low = [min(logs) if math.isnan(end.low) else end.low for logs, end in zip(both, ends, strict=True)]
    high = [max(logs) if math.isnan(end.high) else end.high for logs, end in zip(both, ends, strict=True)]
    return Ratio(*(math.exp(fmean(part)) for part in (map(median, both), low, high)))


def summary(
    launches: list[list[Turn]],
    versions: dict[str, str],
    options: argparse.Namespace,
    core: int | None,
) -> dict[str, Any]:
    """All that is printed."""
    stages = {stage: compared(launches, stage) for stage in STAGES}
    judged = not options.quick and len(launches) == options.launches
    return {
        "quick": options.quick,
        "processes": 1 if options.one_process else 2,
        "versions": versions,
        "model": options.model.name if options.model else options.spec,
        "core": core,
        "load_1m": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "prompt_tokens": options.prompt_tokens,
        "decoded_tokens": options.generation_tokens,
        "launches": len(launches),
        "turns": sum(map(len, launches)),
        "tokens_per_s": [[turn._asdict() for turn in launch] for launch in launches],
        "stages": stages,
        "goal": GOAL,
        "met": all(abs(stage["ratio"] - 1) <= GOAL for stage in stages.values()) if judged else None,
    }


def compared(launches: list[list[Turn]], stage: str) -> dict[str, Any]:
    """The medians of both sides over all turns, and their ratio turn by turn."""
    turns = [turn for launch in launches for turn in launch]
    found = ratio(turns, stage)
    return {
        "ours_tokens_per_s": median(turn.ours[stage] for turn in turns),
        "theirs_tokens_per_s": median(turn.before[stage] for turn in turns),
        "ratio": found.value,
        "interval": [found.low, found.high],
        "ratios_of_launches": [ratio(launch, stage).value for launch in launches],
    }


def show(report: dict[str, Any]) -> None:
    """Print it for a reader."""
    where = "free" if report["core"] is None else f"pinned to core {report['core']}"
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    print(
        f"\n{report['model']}, {versions}, {'one process' if report['processes'] == 1 else 'two processes'}, {where}, {report['prompt_tokens']} prompt tokens, "
        f"{report['decoded_tokens']} decoded, {report['turns']} turns in {report['launches']} launches"
    )
    print(f"{'':10}{'ours':>12}{'mlx_lm':>12}{'ratio':>9}   95 % interval     launches from … to")
    for name, row in report["stages"].items():
        low, high = row["interval"]
        spread = row["ratios_of_launches"]
        print(f"{name:10}{row['ours_tokens_per_s']:12.1f}{row['theirs_tokens_per_s']:12.1f}{row['ratio']:9.4f}   "
              f"{low:.4f} … {high:.4f}   {min(spread):.4f} … {max(spread):.4f}")  # fmt: skip
    print(
        "tokens/s: medians of turns; ratio: median over turns, each against the trial before it and after it"
    )
    verdict = {True: "met", False: "not met", None: "not judged, launches are missing"}[report["met"]]
    verdict = "not judged in quick mode" if report["quick"] else verdict
    print(f"goal: prefill and decode within {GOAL * 100:.0f} %: {verdict}")


if __name__ == "__main__":
    sys.exit(main())
