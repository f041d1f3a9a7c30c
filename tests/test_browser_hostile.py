"""A history whose every text wants to be something else than text: on no page does anything of it run, turn or overflow."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fixtures_pages as pages
import fixtures_site as made
import pytest
from fixtures_browser import Browser

from mlx_velocity import tracks

pytestmark = pytest.mark.browser

RUN = "window.__pwned=1"
IMAGE = f"<img src=x onerror={RUN}>"
TEXTS = {
    "image": IMAGE,
    "script": f"</script><script>{RUN}</script>",
    "title": f"</title></textarea><svg onload={RUN}>",
    "quotes": f"\"' onmouseover={RUN} autofocus onfocus={RUN} x='\"",
    "template": "{{ 1234*5678 }}{% raw %}${1234*5678}",
    "turned": "safe\u202eetis \u2066x\u2069 \u200fend",
    "control": "bell\a back\b escape\x1b[31m del\x7f next\x85 line\u2028end",
    "long": "very long " + "W" * 10_000,
    "link": f"javascript:{RUN}",
    "markdown": "a|b `c` [d](javascript:alert(1)) \\",
}
HOSTILE = " ".join(text for name, text in TEXTS.items() if name != "long")
TAG = f'"><img/src=x/onerror={RUN}>\u202etag'
PLACE = f"m{IMAGE}"[:60]
ENVIRONMENT = f"velocity\"'{IMAGE}\u202e"
FORBIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029]"
)
COLUMNS = ["result", "params", "version", "started_at", "duration", "stats_ci_99_a", "stats_ci_99_b", "stats_q_25",
           "stats_q_75", "stats_number", "stats_repeat", "samples", "profile"]  # fmt: skip


def commits(folder: Path) -> list[str]:
    """A repository with hostile subjects and tags; the hashes of its commits, oldest first."""

    def git(*words: str, text: str = "") -> str:
        who = {f"GIT_{role}_{key}": IMAGE if key == "NAME" else "x@example.invalid"
               for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}  # fmt: skip
        return subprocess.run(
            ["git", *words], cwd=folder, input=text, capture_output=True, text=True, check=True,
            env={**os.environ, **who},
        ).stdout.strip()  # fmt: skip

    folder.mkdir()
    git("init", "--quiet", "--initial-branch=main")
    for text in TEXTS.values():
        git(
            "commit",
            "--quiet",
            "--allow-empty",
            "--cleanup=verbatim",
            "--file=-",
            text=text.replace("\u2028", " "),
        )
    git("tag", TAG, "HEAD~1")
    git("tag", TAG + "W" * 150, "HEAD~2")
    return git("rev-list", "--reverse", "main").split()


def benchmarks() -> dict[str, dict[str, Any]]:
    """A benchmark of ours on hostile models, and one per hostile name."""
    made_up = {"version": "1", "unit": "seconds", "type": "time", "timeout": 60.0, "rounds": 2}
    found = [
        {"name": "prefill.Prefill.time_prefill", "params": [[f"'{IMAGE}'", f"'{TEXTS['long']}'"], ["32"]],
         "param_names": ["model", "tokens"], "tokens_from": "tokens", "code": HOSTILE, **made_up},
        {"name": "lora.Memory.track_peak_bytes", "params": [[f"'{HOSTILE}'"]], "param_names": ["model"],
         "code": HOSTILE, **made_up, "unit": "bytes", "type": "track"},
    ]  # fmt: skip
    for key, text in TEXTS.items():
        found.append(
            {
                "name": f"{text}.Case.time_{key}",
                "params": [[text]],
                "param_names": [HOSTILE],
                "code": text,
                **made_up,
            }
        )
    return {str(item["name"]): item for item in found}


def store(folder: Path, hashes: list[str]) -> None:
    """Results of every commit on a machine whose every field is hostile; the last benchmark always failed."""
    fields = {
        "arch": HOSTILE,
        "cpu": TEXTS["long"],
        "gpu": IMAGE,
        "num_cpu": IMAGE,
        "os": HOSTILE,
        "ram": IMAGE,
    }
    machine = folder / PLACE
    machine.mkdir(parents=True)
    (machine / "machine.json").write_text(json.dumps({**fields, "machine": PLACE, "version": 1}), "utf-8")
    known = benchmarks()
    (folder / "benchmarks.json").write_text(json.dumps({**known, "version": 2}), "utf-8")
    for number, commit in enumerate(hashes):
        rows, lines = {}, [{"kind": "environment", "name": ENVIRONMENT, "backend": IMAGE, "python": HOSTILE,
                            "requirements": [HOSTILE], "packages": {IMAGE: str(number), HOSTILE: TEXTS["long"]}}]  # fmt: skip
        for launch in ("a", IMAGE):
            lines.append({"kind": "launch", "launch": launch, "started": IMAGE, "affinity": [1],
                          "modules": {IMAGE: HOSTILE}, "startup_s": 1.0})  # fmt: skip
        failing = list(known)[-1]
        for name, item in known.items():
            size, value = len(item["params"][0]), 0.01 * (2 if number > len(hashes) / 2 else 1)
            filled = [None if name == failing else value] * size
            rows[name] = [
                filled,
                item["params"],
                "1",
                1_700_000_000_000,
                1.0,
                *[[value] * size] * 4,
                [1] * size,
                [6] * size,
            ]
            for first in item["params"][0]:
                for launch, shift in (("a", 1.0), (IMAGE, 1.001)):
                    case = {"launch": launch, "benchmark": name, "version": "1", "started": IMAGE,
                            "params": [first, *(part[0] for part in item["params"][1:])]}  # fmt: skip
                    lines.append(
                        {"kind": "failure", **case, "outcome": "failed", "reason": TEXTS["long"] + HOSTILE, "exit_code": 1,
                         "last_lines": [HOSTILE]} if name == failing else
                        {"kind": "measurement", **case, "unit": item["unit"], "samples": [value * shift] * 3, "warmup": [],
                         "duration_s": 1.0, "notes": {IMAGE: IMAGE}, "sensors": {"load_1m": 0.1}}
                    )  # fmt: skip
        lines.append({"kind": "set_aside", "file": IMAGE, "reason": HOSTILE, "started": IMAGE})
        held = {
            "commit_hash": commit, "env_name": ENVIRONMENT, "date": 1_700_000_000_000 + number, "version": 2,
            "params": {**fields, "machine": PLACE, "python": HOSTILE, "backend": IMAGE}, "python": HOSTILE,
            "requirements": {HOSTILE: IMAGE}, "env_vars": {}, "result_columns": COLUMNS, "results": rows, "durations": {},
        }  # fmt: skip
        stem = f"{commit[:8]}-{ENVIRONMENT}"
        (machine / f"{stem}.json").write_text(json.dumps(held), "utf-8")
        text = "".join(json.dumps({"format": 1, **line}) + "\n" for line in lines)
        (machine / f"{stem}.readings.jsonl").write_text(text, "utf-8")
    # A name that is no file name of ours, and one that can't be read.
    (machine / f"deadbeef-{IMAGE}.json").write_text(HOSTILE, "utf-8")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The hostile history's site."""
    folder = tmp_path_factory.mktemp("hostile")
    hashes = commits(folder / "repo")
    store(folder / "results" / "hostile", hashes)
    (folder / "benchmarks").mkdir()
    (folder / "benchmarks" / "__init__.py").touch()
    settings = {
        "version": 1, "project": HOSTILE, "project_url": TEXTS["link"], "show_commit_url": TEXTS["link"],
        "repo": str(folder / "repo"), "dvcs": "git", "branches": ["main"], "plugins": [tracks.PLUGIN],
        "environment_type": "velocity", "results_dir": "results/hostile", "env_dir": "environments", "html_dir": ".asv/html",
        "mlx_velocity": {"backend": "cpu"},
    }  # fmt: skip
    (folder / "asv.conf.json").write_text(json.dumps(settings), "utf-8")
    built = made.built(tracks.load(folder / "asv.conf.json"))
    assert built.failed == []
    return built.html_dir


@pytest.fixture(scope="module")
def served(site: Path) -> Iterator[str]:
    """Its address: asv-tachyon needs a server."""
    with made.serving(site.parents[1]) as address:
        yield address


def all_pages(site: Path) -> list[Path]:
    """Every page of ours, each by itself: a commit, a case and a machine have different texts."""
    return sorted(page for page in site.rglob("*.html") if "asv" not in page.relative_to(site).parts)


def test_nothing_of_a_hostile_history_runs(browser: Browser, site: Path) -> None:
    """On every page of ours all of it is text: no script runs, no element is made of it, nothing turns round."""
    listed = all_pages(site)
    assert len(listed) > 2 * len(TEXTS)
    for page in listed:
        pages.visit(browser, page)
        assert browser.value("typeof window.__pwned") == "undefined", page
        made_of_text = "img, svg[onload], [onerror], [onmouseover], [onfocus], script:not([src]):not([type='application/json'])"
        assert browser.value(f"document.querySelectorAll({json.dumps(made_of_text)}).length") == 0, page
        assert (
            browser.value(
                "[...document.querySelectorAll('a')].filter(a => a.protocol === 'javascript:').length"
            )
            == 0
        ), page
        assert FORBIDDEN.findall(browser.text()) == [], page
        assert FORBIDDEN.findall(page.read_text("utf-8")) == [], page
        assert browser.complaints() == [], page
        # 49, say, would be in some hash sooner or later.
        assert str(1234 * 5678) not in browser.value("document.title") + browser.text(), page


def test_a_hostile_text_is_read_as_it_is(browser: Browser, site: Path) -> None:
    """What is written in a subject, a tag, a model and a machine is what a reader sees, markup and all."""
    kinds = pages.every_kind(site)
    for kind in ("commits-list", "one-of-commits", "models", "compare", "machines"):
        pages.visit(browser, kinds[kind])
        assert IMAGE in browser.text() or IMAGE in browser.value("document.body.textContent"), kind


@pytest.mark.parametrize("width", [390, 1400])
def test_a_hostile_text_makes_no_page_too_wide(browser: Browser, site: Path, width: int) -> None:
    """Ten thousand letters without a blank are cut or folded: no page scrolls sideways."""
    browser.shape(width)
    for page in all_pages(site):
        pages.visit(browser, page)
        assert pages.too_wide(browser) == [], page


def test_the_names_of_files_are_sane(site: Path) -> None:
    """No hostile text gets into a folder that it should not, nor into a name that a system refuses."""
    for path in site.rglob("*"):
        assert len(path.name.encode()) <= 255
        assert not FORBIDDEN.search(path.name), path
        if "asv" not in path.relative_to(site).parts:
            assert re.fullmatch(r"[A-Za-z0-9._-]+", path.name), path


def test_markdown_of_a_hostile_table_stays_a_table(browser: Browser, site: Path) -> None:
    """What is copied to an issue holds no markup: every sign that means something there is escaped."""
    pages.visit(browser, pages.every_kind(site)["models"])
    text = browser.value("document.querySelector('[data-markdown]').textContent")
    assert not re.search(r"(?<!\\)[<>]", text)
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1


@pytest.mark.parametrize("view", ["", "heatmap", "grid", "multiples", "compare", "regressions", "inventory"])
def test_nothing_of_it_runs_in_asv_tachyon(browser: Browser, site: Path, served: str, view: str) -> None:
    """asv-tachyon's views over the same data run nothing of it either, and show no sign that turns text round."""
    browser.open(served + str(pages.explore(site).relative_to(site)) + (f"#view={view}" if view else ""))
    browser.until("document.querySelectorAll('.main').length")
    browser.until("document.body.innerText", lambda text: "Loading" not in text)
    assert browser.value("typeof window.__pwned") == "undefined"
    assert browser.value("document.querySelectorAll('img[src=x], svg[onload], [onerror]').length") == 0
    assert browser.failures() == []
    assert FORBIDDEN.findall(browser.text()) == []
