"""What happens when stored files hold anything at all?

Shows, for each stored format: how many inputs its readers were given, how many of them were read and how many refused, and
the defects: a traceback, an answer that holds another number than the file, a refusal without a reason. Goal: none
in 1,000,000 inputs.

How: the real program measures, compares, bisects and publishes a small project (toy_project.py); what it stored is what
every format begins with (fuzz_targets.py). Each format is then fed by atheris, which goes after inputs that reach new code of
mlx_velocity (libFuzzer), and by Hypothesis; both change bytes, and values within the JSON, so that most inputs get past
the parser. A defect is kept with its input and the search goes on.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

SHARES = {
    "readings": 190, "result": 150, "comparison": 120, "bisection": 100, "machine": 90, "configuration": 60,
    "benchmarks": 60, "releases": 60, "regressions": 60, "profile": 60, "recording": 50, "wheelhouse": 40,
    "index": 20, "notes": 20, "told": 2,
}  # fmt: skip
"""Inputs of each format, in thousands."""
QUICK = ("readings", "comparison", "index")
HYPOTHESIS = 50
"""One input in so many is Hypothesis's."""
ODD = ("null", "-1", "0", "1e999", "NaN", "1e-320", "true", '""', "[]", "{}", "[[1]]", '"\\ud800"', "99999999999999999999",
       '"x"', "1.5", "[null]")  # fmt: skip
LONGEST = 20_000
"""Bytes of an input of JSON."""
MACHINE = ["--machine", "fuzzed", "--no-control"]


def main() -> int:
    """Feed every format and print the table; 1 where there was a defect, or fewer inputs than asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", action="append", choices=SHARES, help="a format (else all); may be repeated"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="formats at a time")
    parser.add_argument("--defects", type=Path, help="folder for the inputs that found something")
    parser.add_argument("--quick", action="store_true", help="few inputs of each format")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found as JSON")
    parser.add_argument("--engine", choices=("atheris", "hypothesis"), help=argparse.SUPPRESS)
    parser.add_argument("--inputs", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--project", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        return feed(options)
    if importlib.util.find_spec("atheris") is None:
        print("fuzz: it needs atheris, which has wheels for Linux: pip install atheris", file=sys.stderr)
        return 2
    names = options.only or (QUICK if options.quick else SHARES)
    with tempfile.TemporaryDirectory(prefix="mv-") as place:
        project = prepare(Path(place))
        print(
            f"{'format':15}{'engine':>12}{'inputs':>10}{'read':>10}{'refused':>10}{'defects':>9}", flush=True
        )
        jobs = [(name, engine) for name in names for engine in ("atheris", "hypothesis")]
        with ThreadPoolExecutor(1 if options.quick else options.jobs) as pool:
            rows = list(pool.map(lambda job: row_of(*job, options, project), jobs))
    total = sum(row["inputs"] for row in rows)
    asked = sum(row["asked"] for row in rows)
    defects = sum(len(row["defects"]) for row in rows)
    print(f"{total:,} inputs of {asked:,} asked for, {defects} defects")
    if options.json:
        report = {"quick": options.quick, "seed": options.seed, "rows": rows}
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 1 if defects or total < asked else 0


def prepare(folder: Path) -> Path:
    """A measured, compared, searched and published project."""
    from fuzz_targets import RECORDING
    from toy_project import make

    project = make(folder / "project", commits=4)
    first, last = project.commits[0], project.commits[-1]
    for words in (
        ["run", "ALL", "--launches", "1", *MACHINE],
        ["compare", first, last, "--bench", "track_bytes", *MACHINE, "--max-samples", "8"],
        ["bisect", first, last, "--case", "suite.Stage.track_bytes(1)", *MACHINE],
        ["publish"],
        ["monitor", "--seconds", "1", "-o", RECORDING],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "mlx_velocity", *words],
            cwd=project.folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        # compare says by its exit code that it found something.
        if done.returncode not in (0, 1):
            raise SystemExit(f"fuzz: {' '.join(words)}: {done.stderr}")
    (folder / "commits.json").write_text(json.dumps(project.commits), "utf-8")
    return folder


def row_of(name: str, engine: str, options: argparse.Namespace, project: Path) -> dict[str, Any]:
    """Feed one format in a process of its own: coverage is counted from its start, and libFuzzer ends its process."""
    share = 60 if options.quick else SHARES[name] * 1000
    asked = share - share // HYPOTHESIS if engine == "atheris" else max(20, share // HYPOTHESIS)
    with tempfile.TemporaryDirectory(prefix="mv-") as place:
        found = Path(place) / "found.json"
        command = [sys.executable, __file__, "--engine", engine, "--only", name, "--inputs", str(asked), "--json", str(found),
                   "--project", str(project), "--seed", str(options.seed)]  # fmt: skip
        command += ["--defects", str(options.defects.resolve())] if options.defects else []
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
        if not found.exists():
            return stopped(name, engine, asked, done, Path(place), options.defects)
        row: dict[str, Any] = {
            "format": name,
            "engine": engine,
            "asked": asked,
            **json.loads(found.read_text("utf-8")),
        }
    print(
        f"{name:15}{engine:>12}{row['inputs']:10,}{row['read']:10,}{row['refused']:10,}{len(row['defects']):9}",
        flush=True,
    )
    for told in row["defects"]:
        print(f"    {told}", flush=True)
    return row


def stopped(
    name: str,
    engine: str,
    asked: int,
    done: subprocess.CompletedProcess[str],
    place: Path,
    defects: Path | None,
) -> dict[str, Any]:
    """The row of a process that ended before its time: memory or time ran out, or it could not begin."""
    told = next(
        (line for line in done.stderr.splitlines() if "ERROR: libFuzzer" in line), done.stderr[-2000:]
    )
    for unit in [*place.glob("oom-*"), *place.glob("timeout-*"), *place.glob("crash-*")] if defects else []:
        defects.mkdir(parents=True, exist_ok=True)
        (defects / f"{name}-{unit.name}").write_bytes(unit.read_bytes())
    print(f"{name:15}{engine:>12} stopped: {told}", flush=True)
    return {
        "format": name,
        "engine": engine,
        "asked": asked,
        "inputs": 0,
        "read": 0,
        "refused": 0,
        "defects": [told],
    }


def feed(options: argparse.Namespace) -> int:
    """In a process of its own: feed one format."""
    import atheris

    with atheris.instrument_imports(include=["mlx_velocity"], enable_loader_override=False):
        import fuzz_targets
        from toy_project import Project

    (name,) = options.only
    commits = json.loads((options.project / "commits.json").read_text("utf-8"))
    # Each has a copy: the index is damaged in its place.
    own = Path.cwd() / "project"
    subprocess.run(["cp", "-r", str(options.project / "project"), str(own)], check=True)
    folder = Path.cwd() / "files"
    folder.mkdir()
    target = fuzz_targets.target(name, Project(own, tuple(commits)), folder)
    counted: Counter[str] = Counter()
    defects: dict[str, str] = {}

    def take(data: bytes) -> None:
        counted["inputs"] += 1
        try:
            counted[target.feed(data)] += 1
        # Any exception at all is what is looked for.
        except Exception as error:
            told = signature(error)
            if told not in defects and options.defects:
                options.defects.mkdir(parents=True, exist_ok=True)
                (options.defects / f"{name}-{len(defects)}").write_bytes(data)
            defects.setdefault(told, name)
        if counted["inputs"] == options.inputs:
            save()
            # libFuzzer has no way to end but this one.
            os._exit(0)

    def save() -> None:
        report = {key: counted[key] for key in ("inputs", "read", "refused")} | {"defects": list(defects)}
        options.json.write_text(json.dumps(report), "utf-8")

    for seed in target.seeds:
        if target.feed(seed) != fuzz_targets.READ:
            raise SystemExit(f"fuzz: what the program stored is not read: {name}")
    if options.engine == "hypothesis":
        with_hypothesis(take, target, options)
    else:
        with_atheris(atheris, take, target, options)
    # Hypothesis may have found fewer than it was asked for.
    save()
    return 0


def signature(error: BaseException) -> str:
    """What is wrong and where: the deepest line of ours, so that one defect counts once."""
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if "mlx_velocity" in frame.filename
    ]
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "fuzz_targets"
    words = str(error)[:60] if type(error).__name__ == "Wrong" else ""
    return f"{type(error).__name__} in {where} {words}".strip()


def with_atheris(atheris: Any, take: Any, target: Any, options: argparse.Namespace) -> None:
    """Inputs that reach new code; ends the process."""
    corpus = Path.cwd() / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(target.seeds):
        (corpus / str(number)).write_bytes(seed)

    def mutator(data: bytes, max_size: int, seed: int) -> bytes:
        draw = random.Random(seed)
        if target.text and draw.random() < 0.6:
            return changed(data, draw)[:max_size]
        return bytes(atheris.Mutate(data, max_size))

    longest = LONGEST if target.text else 2 * max(map(len, target.seeds))
    arguments = [sys.argv[0], f"-seed={options.seed}", f"-max_len={longest}", "-verbosity=0",
                 "-len_control=0", "-timeout=300", str(corpus)]  # fmt: skip
    atheris.Setup(arguments, take, custom_mutator=mutator)
    atheris.Fuzz()


def with_hypothesis(take: Any, target: Any, options: argparse.Namespace) -> None:
    """Inputs that Hypothesis draws: bytes, and what was stored with some values changed."""
    from hypothesis import HealthCheck, given, seed, settings
    from hypothesis import strategies as st

    begin = target.seeds[0]
    from_seed = st.integers(0, 2**32).map(lambda number: altered(begin, random.Random(number), target.text))

    @seed(options.seed)
    @settings(
        max_examples=options.inputs, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.binary(max_size=300) | from_seed | from_seed)
    def run(data: bytes) -> None:
        take(data)

    run()


def altered(data: bytes, draw: random.Random, text: bool) -> bytes:
    """Bytes with values or bytes changed in one to four places."""
    for _ in range(draw.randint(1, 4)):
        if text and draw.random() < 0.7:
            data = changed(data, draw)
        elif data:
            place = draw.randrange(len(data))
            data = (
                data[:place]
                + bytes([draw.randrange(256)]) * draw.choice((0, 1, 3))
                + data[place + draw.choice((0, 1, 40)) :]
            )
    return data


def changed(data: bytes, draw: random.Random) -> bytes:
    """JSON, or lines of it, with one value replaced, left out or doubled; bytes that are none stay as they are."""
    rows = data.split(b"\n")
    try:
        whole = json.loads(data)
        rows, place = [data], 0
    except (ValueError, RecursionError):
        place = draw.randrange(len(rows))
        try:
            whole = json.loads(rows[place])
        except (ValueError, RecursionError):
            return data
    spots = list(places(whole))
    if not spots:
        return data
    holder, key = draw.choice(spots)
    odd = json.dumps(holder[key]) if draw.random() < 0.1 else draw.choice(ODD)
    kind = draw.random()
    if kind < 0.2:
        del holder[key]
    elif kind < 0.35 and isinstance(holder, list):
        holder.insert(key, holder[key])
    elif kind < 0.45 and isinstance(holder, dict):
        holder[draw.choice(("format", "version", "kind", "extra", "é\u2028"))] = holder.pop(key)
    elif kind < 0.6:
        other, wanted = draw.choice(spots)
        if wanted in other if isinstance(other, dict) else wanted < len(other):
            holder[key] = json.loads(json.dumps(other[wanted]))
    else:
        holder[key] = MARK
    rows[place] = json.dumps(whole).replace(f'"{MARK}"', odd).encode()
    if len(rows) > 1 and draw.random() < 0.1:
        rows.insert(draw.randrange(len(rows)), rows[place])
    return b"\n".join(rows)


MARK = "<odd>"
"""Stands for a value that JSON's own writer would refuse."""


def places(value: Any) -> Any:
    """Each list or object with each key in it, all the way down."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys):
        yield value, key
        yield from places(value[key])


if __name__ == "__main__":
    sys.exit(main())
