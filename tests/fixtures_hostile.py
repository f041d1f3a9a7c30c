"""A history in which every text that somebody else can choose tries to be more than text."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import fixtures_site as made
import made_up_store

MARKUP = "<img src=x onerror=window.hacked=1>"
SCRIPT = "\"'><script>window.hacked=1</script>"
TURNED = "safe\u202egnp.exe"
CONTROL = "a\x1b[31mred\x00\x07"
LONG = "L" * 10_000
TEXTS = [
    MARKUP,
    SCRIPT,
    TURNED,
    CONTROL,
    LONG,
    "../../../etc/passwd",
    "{{7*7}}${7*7}",
    "javascript:window.hacked=1",
    "\ud800",
]
NAMES = [
    f"{MARKUP}.time_x", f"{SCRIPT}.time_x", f"{TURNED}.time_x", f"{CONTROL}.time_x", f"{LONG}.time_x",
    "../../../../escaped.time_x", "..", "summary", "a(b.time_x", "a\\b^c.time_x", "CON", "größe.速度.time_x",
]  # fmt: skip
STORE = made_up_store.Store(40, 3, machines=1, parametrised=1, missing=0.0)


def write(folder: Path) -> list[str]:
    """Write it to an empty folder; returns its commits."""
    commits = made_up_store.write(folder, STORE)
    results = folder / "results" / made_up_store.TRACK
    described = json.loads((results / "benchmarks.json").read_text("utf-8"))
    plain = described["stage1.Case1.time_case"]
    with_params = described["stage0.Case0.time_case"]
    for name in NAMES:
        described[name] = {
            **plain,
            "name": name,
            "code": f"# {MARKUP}\n{CONTROL}\n{LONG}",
            "pretty_name": MARKUP,
        }
    described["params.time_x"] = {
        **with_params, "name": "params.time_x", "param_names": [MARKUP, CONTROL],
        "params": [[MARKUP, SCRIPT], [TURNED, LONG]], MARKUP: {SCRIPT: [CONTROL]},
    }  # fmt: skip
    (results / "benchmarks.json").write_text(json.dumps(described), "utf-8")
    machine = {key: TEXTS[number % len(TEXTS)] for number, key in enumerate(made_up_store.MACHINE)}
    keys = {MARKUP: SCRIPT, "..": "", LONG: LONG, CONTROL: CONTROL, "a/b": "c/d", "": "x", "e": ""}
    for path in (results / "machine-0").glob("*cpu.json"):
        held = json.loads(path.read_text("utf-8"))
        value = held["results"]["stage1.Case1.time_case"]
        for name in NAMES:
            held["results"][name] = value
        four = held["results"]["stage0.Case0.time_case"]
        held["results"]["params.time_x"] = [four[0], described["params.time_x"]["params"], *four[2:]]
        held["params"] |= machine | keys | {"machine": MARKUP}
        held["env_vars"] = {MARKUP: CONTROL}
        path.write_text(json.dumps(held), "utf-8")
    text = json.dumps({**machine, "machine": MARKUP, "version": 1, MARKUP: {LONG: [SCRIPT]}})
    (results / "machine-0" / "machine.json").write_text(text, "utf-8")
    (results / "machine-0").rename(results / "<b>&'machine")
    _commits(folder, commits)
    settings = json.loads((folder / "asv.conf.json").read_text("utf-8"))
    settings |= {
        "project": MARKUP, "project_url": "javascript:window.hacked=1",
        "show_commit_url": "javascript:window.hacked=1//", "regressions_thresholds": {".*": 0.001},
    }  # fmt: skip
    (folder / "asv.conf.json").write_text(json.dumps(settings), "utf-8")
    return commits


def _commits(folder: Path, commits: list[str]) -> None:
    """Tags and a newest commit that try the same."""

    def git(*arguments: str, **more: Any) -> None:
        subprocess.run(
            ["git", *arguments], cwd=folder / "repo", env=made.basic_environment(), check=True, **more
        )

    for number, tag in enumerate(
        ["<img/src=x/onerror=window.hacked=1>", "'\";alert(1)", "--output=x", "\u202etag", "HEAD"]
    ):
        # As refs, since `git tag` refuses some of these and others do not.
        git("update-ref", f"refs/tags/{tag}", commits[number])
    subject = f"{MARKUP} {SCRIPT} {TURNED} \x1b[31m {LONG}"
    git("symbolic-ref", "HEAD", "refs/heads/main")
    git("-c", "user.name=x", "-c", "user.email=x@example.invalid", "commit", "--quiet", "--allow-empty", "-F", "-",
        input=subject.encode())  # fmt: skip
    newest = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=folder / "repo", capture_output=True, text=True, check=True
    ).stdout.strip()
    results = folder / "results" / made_up_store.TRACK / "<b>&'machine"
    source = sorted(results.glob("*cpu.json"))[0]
    held = json.loads(source.read_text("utf-8"))
    held["commit_hash"] = newest
    for row in held["results"].values():
        row[0] = [3 * value for value in row[0]]  # a regression, so that the feed speaks of it
    (results / f"{newest[:8]}-{made_up_store.ENVIRONMENT}.json").write_text(json.dumps(held), "utf-8")
