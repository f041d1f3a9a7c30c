"""The command `profile`: shares and differences, stored profiles, and a planted slow layer that comes first."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import random
import shutil
from pathlib import Path
from typing import Any

import git
import pytest
from conftest import ENVIRONMENT, HELLO, STARTED, MakeTrack, one_line
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from mlx_velocity import (
    comparisons,
    dissect,
    installed,
    profiles,
    schemas,
    shares,
    sides,
    stats,
    tracks,
    workers,
)
from mlx_velocity.breakdown import Header, Launch, Part, Profile, Task
from mlx_velocity.cli import app
from mlx_velocity.environments import Prepared
from mlx_velocity.errors import InputError, MeasurementError, VelocityError
from mlx_velocity.report import shares as report
from mlx_velocity.workers import WorkerError

TASK = Task("tiny-float32", "decode", 128, 0, 8)
HEADER = Header("mlx-lm", "m4", "cpu", "main", "c0ffee01" * 5, "Fix it", ENVIRONMENT, TASK, STARTED)
OUTPUT = schemas.load("profile-output.schema.json")

# Never edit these lines: files like this lie in users' repositories, and every later version must read them.
FORMAT_1 = r"""
{"format":1,"kind":"profile","track":"mlx-lm","machine":"m4","backend":"metal","name":"main","commit":"c0ffee01c0ffee01c0ffee01c0ffee01c0ffee01","subject":"Fix it","environment":{"name":"velocity-py3.12","backend":"metal","python":"3.12","requirements":["mlx==0.31.2"],"packages":{"mlx":"0.31.2"}},"task":{"model":"tiny-float32","stage":"decode","tokens":128,"depth":0,"generate":2},"started":"2026-11-21T09:56:10.320Z","together":"ab12"}
{"format":1,"kind":"launch","number":1,"started":"2026-11-21T09:56:11Z","affinity":[1],"versions":{"mlx":"0.31.2","mlx_lm":"0.31.1"},"steps":2,"unprofiled":[0.25],"profiled":[0.5],"parts":[{"name":"other","kind":"other","layer":null,"self_s":[[0.25]],"total_s":[0.5]},{"name":"model.layers.0.mlp","kind":"mlp rest","layer":0,"self_s":[[0.125,0.125]],"total_s":[0.25]}],"floor_s":1e-05,"same_result":true,"notes":{"digest":"a1"},"sensors":{"load_1m":0.5},"disturbed":""}
"""


def part(name: str, kind: str, layer: int | None, runs: list[list[float]]) -> Part:
    return Part(name, kind, layer, runs, [sum(run) for run in runs])


def launch(number: int = 1, slower: float = 0.0, noise: float = 0.0, **changes: Any) -> Launch:
    """Two repetitions of two steps: an MLP in each of two layers, the second one slower by so much, and the rest."""
    draw = random.Random(number * 1000 + round(slower * 1e6))
    layers = [
        part(f"model.layers.{at}.mlp", "mlp rest", at, [
            [0.1 + (slower if at == 1 else 0) + draw.gauss(0, noise) for _ in range(2)] for _ in range(2)
        ])
        for at in range(2)
    ]  # fmt: skip
    rest = part("other", "other", None, [[0.2 + draw.gauss(0, noise)] for _ in range(2)])
    parts = [*layers, rest]
    whole = [sum(sum(item.self_s[run]) for item in parts) for run in range(2)]
    made = Launch(number, STARTED, [1], {"mlx": "1", "mlx_lm": "2"}, 2, [0.3, 0.3], whole, parts, 1e-5, True, {"digest": "a"})  # fmt: skip
    return dataclasses.replace(made, **changes)


def profile(slower: float = 0.0, noise: float = 0.0, count: int = 8, **changes: Any) -> Profile:
    header = dataclasses.replace(HEADER, **changes)
    seeds = range(1, count + 1)
    found = [launch(number, slower, noise) for number in seeds]
    return Profile(header, found)


# What a profile says


def test_shares_of_kinds_layers_and_parts_add_up() -> None:
    """By kind, by layer and by part, shares are of one step, sorted, and add up to the profiled time."""
    found = [launch(1, 0.1), launch(2, 0.1)]
    for by in ("kind", "layer", "part"):
        rows = shares.shares(found, by)
        assert sum(row.share for row in rows) == pytest.approx(1.0)
        assert sum(row.self_s for row in rows) == pytest.approx(0.4)
        assert [row.self_s for row in rows] == sorted((row.self_s for row in rows), reverse=True)
    assert [row.name for row in shares.shares(found, "layer")] == ["layer 1", "layer 0", shares.OUTSIDE]
    mlp = shares.shares(found, "kind")[0]
    assert (mlp.name, mlp.calls) == ("mlp rest", 2.0)
    assert mlp.mean_s == pytest.approx(0.15)


def test_times_are_of_one_step() -> None:
    """The ratio is of the profiled to the unprofiled time of one step."""
    times = shares.times([launch()])
    assert (times.profiled_s, times.unprofiled_s) == (pytest.approx(0.3), pytest.approx(0.15))
    assert times.ratio == pytest.approx(2.0)


def test_medians_withstand_one_bad_repetition() -> None:
    """One repetition or launch out of several that took ten times as long changes nothing."""
    odd = part("other", "other", None, [[0.2], [2.0], [0.2]])
    found = launch(profiled=[0.2, 2.0, 0.2], parts=[odd])
    assert shares.shares([found], "kind")[0].self_s == pytest.approx(0.1)


def test_what_grew_comes_first_and_nothing_else_is_called() -> None:
    """Of parts that vary by 5 %, the one that grew by 30 % comes first, and no other is said to have changed."""
    shown = shares.between(profile(0.0, 0.005), profile(0.03, 0.005))
    assert next((row.name, row.change) for row in shown.parts) == ("model.layers.1.mlp", "grew")
    assert {row.change for row in shown.parts[1:]} == {"not shown"}
    first = shown.parts[0]
    assert first.low_s is not None
    assert first.high_s is not None
    assert first.low_s < 0.03 < first.high_s
    assert first.share == pytest.approx(0.1, abs=0.03)
    assert next(row.name for row in shown.layers) == "layer 1"
    assert shares.between(profile(0.03, 0.005), profile(0.0, 0.005)).parts[0].change == "shrank"


def test_noise_is_not_sold_as_growth() -> None:
    """Between equal sides, at most a few of many rows are called over a hundred differences."""
    called = rows = 0
    for trial in range(100):
        draw = random.Random(trial)
        sums = []
        for number in range(1, 9):
            sides_of = [
                launch(number, parts=[
                    part(f"model.layers.{at}.mlp", "mlp rest", at, [[max(1e-6, draw.gauss(0.1, 0.01))] for _ in range(2)])
                    for at in range(20)
                ])
                for _ in range(2)
            ]  # fmt: skip
            sums.append((sides_of[0], sides_of[1]))
        found = shares.growth(sums, "part")
        rows += len(found)
        called += sum(row.change != "not shown" for row in found)
    assert rows == 2000
    assert called <= 0.01 * rows


def test_two_pairs_of_launches_decide_nothing() -> None:
    """With too few pairs no row is called and none has an interval."""
    shown = shares.between(profile(0.0, 0.001, 2), profile(0.5, 0.001, 2))
    assert {(row.change, row.low_s) for row in shown.parts} == {("not shown", None)}


def test_a_part_of_one_side_is_said_to_be_one() -> None:
    """A part that only one side has is no part that took no time on the other."""
    base, head = profile(0, 0.001), profile(0, 0.001)
    renamed = [
        dataclasses.replace(
            item, parts=[dataclasses.replace(p, name="model.new") if p.kind == "other" else p for p in item.parts]
        )
        for item in head.launches
    ]  # fmt: skip
    shown = {row.name: row for row in shares.between(base, Profile(head.header, renamed)).parts}
    assert (shown["model.new"].change, shown["model.new"].base_s) == ("only head", None)
    assert (shown["other"].change, shown["other"].head_s) == ("only base", None)


def test_disturbed_pairs_count_only_where_too_few_are_left() -> None:
    """Undisturbed pairs are used alone if there are three; else all are, and the reader is told."""
    base, head = profile(count=6), profile(count=6)

    def disturbed(item: Profile, count: int) -> Profile:
        marked = [
            dataclasses.replace(each, disturbed="another program" if each.number <= count else "")
            for each in item.launches
        ]
        return Profile(item.header, marked)

    some = shares.between(disturbed(base, 3), disturbed(head, 3))
    most = shares.between(disturbed(base, 4), disturbed(head, 4))
    assert (some.pairs, some.disturbed_used) == (3, False)
    assert (most.pairs, most.disturbed_used) == (6, True)
    assert "intervals are wide" in " ".join(report.growth_caveats(most))


def test_adjusted_chances() -> None:
    """Asking many questions at once raises each chance, and never lowers one."""
    assert stats.adjusted([]) == []
    assert stats.adjusted([0.01, 0.5, 0.9]) == pytest.approx([0.03, 0.75, 0.9])


# What is printed


def test_the_caveats_are_said() -> None:
    """The ratio to the normal time and the time of nothing stand beside each table."""
    shown = shares.of(profile())
    said = " ".join(report.caveats(shown))
    assert "(×2.00)" in said
    assert "breaks fusion and pipelining" in said
    wrong = [dataclasses.replace(item, same_result=False) for item in profile().launches]
    assert "do not trust" in " ".join(report.caveats(shares.of(Profile(HEADER, wrong))))
    lora = dataclasses.replace(HEADER, task=dataclasses.replace(TASK, stage="lora"))
    assert "can't be told apart" in " ".join(report.caveats(shares.of(Profile(lora, profile().launches))))


def test_a_short_table_says_how_many_rows_are_left_out() -> None:
    """The last line is the sum of all rows, shown or not."""
    rows = shares.of(profile()).parts
    assert report.rest_and_total(rows, 1)[0] == "all, 2 more among them"
    assert report.rest_and_total(rows, 0)[-1] == "100 %"
    assert len(report.share_cells(rows, 1)) == 1


@pytest.mark.parametrize("count", [1, 8])
def test_json_and_markdown(count: int) -> None:
    """Both documents fit their schema, with few and with enough launches; Markdown holds every shown row."""
    one = report.breakdown(shares.of(profile(count=count)), True, None)
    two = report.difference(shares.between(profile(count=count), profile(0.1, count=count)), False, None)
    for shown, kind in ((one, "profile"), (two, "diff")):
        document = json.loads(shown.json)
        Draft202012Validator(OUTPUT).validate(document)
        assert document["kind"] == kind
        assert "| `layers.1.mlp` |" in shown.markdown


# What is stored


def test_round_trip(tmp_path: Path) -> None:
    """A stored profile comes back as it was, in a file that asv does not take for its own."""
    stored = profile(together="ab12")
    path = profiles.save(tmp_path, stored)
    assert path.name == "c0ffee01-toy-env.decode-tiny-float32-d0-n8.profile.jsonl"
    assert profiles.read(path) == stored
    assert not list(tmp_path.rglob("*.json"))
    assert [item.name for item in (tmp_path / "profiles").iterdir()] == [path.name]


def test_format_1_is_read(tmp_path: Path) -> None:
    """A file of format 1 is read by every later version."""
    path = tmp_path / "old.profile.jsonl"
    path.write_text(FORMAT_1.lstrip(), "utf-8")
    read = profiles.read(path)
    assert read.header.task.generate == 2
    assert read.launches[0].parts[1].self_s == [[0.125, 0.125]]


def test_load_by_commit_stage_and_model(tmp_path: Path) -> None:
    """Profiles are found by commit, its beginning or its name, by stage and by model, the newest first."""
    old = profile(commit="deadbeef" * 5, name="mlx==0.32.3", started="2025-01-01T00:00:00Z")
    lora = profile(task=dataclasses.replace(TASK, stage="lora"), started="2026-12-01T00:00:00Z")
    for item in (old, profile(), lora):
        profiles.save(tmp_path, item)
    assert [item.header.started for item in profiles.load(tmp_path)] == [
        "2026-12-01T00:00:00Z", STARTED, "2025-01-01T00:00:00Z",
    ]  # fmt: skip
    assert profiles.load(tmp_path, "deadbeef") == profiles.load(tmp_path, "mlx==0.32.3") == [old]
    assert profiles.load(tmp_path, HEADER.commit, stage="lora") == [lora]
    assert profiles.load(tmp_path, model="another") == []
    assert profiles.load(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "does not say what was profiled"),
        ("nonsense\n", "Expecting value"),
        (FORMAT_1.strip().splitlines()[0], "holds no launches"),
        (FORMAT_1.strip().replace('"steps":2', '"steps":0'), "steps"),
        (FORMAT_1.strip().replace('"format":1', '"format":9'), "upgrade"),
    ],
)
def test_a_broken_file_is_refused_and_passed_over(tmp_path: Path, text: str, words: str) -> None:
    """A file that is no profile is named with its reason, and hides no other."""
    folder = tmp_path / profiles.FOLDER
    folder.mkdir()
    (folder / "x.profile.jsonl").write_text(text, "utf-8")
    with pytest.raises(InputError) as error:
        profiles.read(folder / "x.profile.jsonl")
    assert words in one_line(error)
    profiles.save(tmp_path, profile())
    assert len(profiles.load(tmp_path)) == 1


# How two sides take turns

ANSWER = {
    "ok": True, "steps": 2, "unprofiled": [0.1], "profiled": [0.2], "floor_s": 1e-5, "same_result": True, "notes": {},
    "versions": {"mlx": "1", "mlx_lm": "2"}, "sensors": {},
    "parts": [{"name": "other", "kind": "other", "layer": None, "self_s": [[0.2]], "total_s": [0.2]}],
}  # fmt: skip
QUEUE = {"own_busy_cores": 0.5, "others_busy_cores": 1.0, "allowed_cores": 1}


class Clerk:
    """Starts workers that answer from a list, or as usual, and remembers who was asked what."""

    def __init__(self, answers: list[Any] | None = None) -> None:
        self.answers, self.asked, self.open = answers or [], "", 0

    def __call__(self, prepared: Prepared) -> Any:
        clerk, letter = self, prepared.name
        self.open += 1

        class Worker:
            def request(self, message: dict[str, Any], timeout_s: float) -> dict[str, Any]:
                if message["op"] == "hello":
                    return HELLO
                clerk.asked += letter.lower() if message["warm"] else letter
                answer = clerk.answers.pop(0) if clerk.answers else ANSWER
                if isinstance(answer, Exception):
                    raise answer
                return dict(answer)

            def close(self) -> None:
                clerk.open -= 1

        return Worker()


def take(clerk: Clerk, wanted: int = 4) -> list[tuple[Launch, Launch]]:
    found: list[tuple[Launch, Launch]] = []
    pair = (Prepared("A", Path(), ENVIRONMENT), Prepared("B", Path(), ENVIRONMENT))
    try:
        dissect.in_turns(pair, TASK, clerk, wanted, 1, 7, lambda base, head: found.append((base, head)))
    finally:
        assert clerk.open == 0
    return found


def test_turns_alternate() -> None:
    """In each pair both sides warm up, then take turns ABBA or BAAB; both orders occur."""
    clerk = Clerk()
    found = take(clerk, 8)
    orders = [clerk.asked[at : at + 6] for at in range(0, 48, 6)]
    assert {order[:2] for order in orders} == {"ab", "ba"}
    assert {order[2:] for order in orders} == {"ABBA", "BAAB"}
    assert [base.number for base, _ in found] == list(range(1, 9))
    assert all(len(side.profiled) == 2 == len(side.parts[0].self_s) for pair in found for side in pair)


def test_a_disturbed_pair_is_measured_again_and_kept() -> None:
    """A disturbed pair is marked on both sides and another one is taken, but not for ever."""
    one = take(Clerk([ANSWER] * 2 + [{**ANSWER, "sensors": QUEUE}] * 4))
    assert [bool(base.disturbed) for base, _ in one] == [True] + [False] * 4
    assert all(base.disturbed == head.disturbed for base, head in one)
    assert len(take(Clerk([{**ANSWER, "sensors": QUEUE}] * 1000))) == 4 * dissect.SPARE


def test_one_death_is_forgiven() -> None:
    """A launch that dies is replaced once; one that dies at the start, or again, ends it with its reason."""
    died = WorkerError("exit -9 (SIGKILL)", -9, ["Killed"])
    assert len(take(Clerk([ANSWER] * 6 + [died]))) == 4
    for answers in ([died], [ANSWER] * 6 + [died, died]):
        with pytest.raises(MeasurementError) as error:
            take(Clerk(answers))
        assert "exit -9 (SIGKILL) (Killed)" in one_line(error)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"refused": "no model is called x", "advice": "name one"}, "no model is called x; name one"),
        ({"skipped": "it has no q_proj"}, "can't be profiled: it has no q_proj"),
        ({"ok": True}, "can't be read"),
        (WorkerError("ModuleNotFoundError: No module named 'mlx'"), "install mlx, mlx-lm and psutil"),
    ],
)
def test_a_worker_that_declines(answer: Any, words: str) -> None:
    """What a worker declines, and what it can't answer, is one line with what to do."""
    with pytest.raises(VelocityError) as error:
        dissect.alone(Prepared("A", Path(), ENVIRONMENT), TASK, Clerk([answer]), 1, 1)
    assert words in one_line(error)


def test_parts_of_one_turn_only_are_kept() -> None:
    """A part that one turn did not call has no calls there, and no place is lost."""
    extra = {"name": "new", "kind": "mask", "layer": None, "self_s": [[0.1]], "total_s": [0.1]}
    joined = dissect._joined([ANSWER, {**ANSWER, "parts": [*ANSWER["parts"], extra]}])  # type: ignore[misc]
    assert {item["name"]: item["self_s"] for item in joined} == {"other": [[0.2], [0.2]], "new": [[], [0.1]]}


# The command


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["profile", *arguments])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--stage", "train"), "there is no stage 'train'"),
        (("--diff", "a", "b", "--at", "c"), "can't be used together"),
        (("--python", "/nowhere/python"), "is no Python"),
        (("--python", "x", "--at", "main"), "names what is installed"),
        (("--json", "-", "--markdown", "-"), "can't both go to the terminal"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], words: str) -> None:
    """Options that mean nothing are refused in one line before anything is measured."""
    done = run(*arguments)
    assert isinstance(done.exception, InputError)
    assert words in str(done.exception)


needs_mlx = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("mlx", "mlx_lm")), reason="needs mlx and mlx-lm"
)


@needs_mlx
def test_what_is_installed_is_profiled(tmp_path: Path) -> None:
    """Without a commit, the mlx of this Python is profiled in a worker, and JSON and tables say the same."""
    target = tmp_path / "profile.json"
    done = run("-n", "2", "-r", "1", "--json", str(target))
    assert done.exit_code == 0, done.exception
    document = json.loads(target.read_text("utf-8"))
    Draft202012Validator(OUTPUT).validate(document)
    assert document["profile"]["same_result"] is True
    for row in document["kinds"]:
        assert row["name"] in done.stdout


def test_the_installed_python_looks_at_no_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module that lies in the folder that one is in, such as a temporary one, is not imported."""
    (tmp_path / "json.py").write_text("raise SystemExit('caught')", "utf-8")
    monkeypatch.chdir(tmp_path)
    worker = workers.LocalWorker(installed.here(), {})
    try:
        assert worker.request({"op": "hello", "modules": {}, "cores": []}, 60)["ok"]
    finally:
        worker.close()


PLANT = """

class _SlowMLP(MLP):
    def __call__(self, x):
        for _ in range(12):
            x = x + 0 * super().__call__(x)
        return super().__call__(x)


class _SlowModel(LlamaModel):
    def __init__(self, args):
        super().__init__(args)
        self.layers[2].mlp = _SlowMLP(args)


LlamaModel = _SlowModel
"""


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A repository of the installed mlx_lm whose branch `slow` has a slow MLP in its third layer."""
    found = importlib.util.find_spec("mlx_lm")
    assert found is not None
    assert found.submodule_search_locations
    folder = tmp_path / "mlx-lm"
    author = git.Actor("Somebody", "somebody@example.invalid")
    with git.Repo.init(folder, initial_branch="main") as repo:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(found.submodule_search_locations[0], folder / "mlx_lm", ignore=ignored)
        repo.git.add("--all")
        repo.index.commit("as released", author=author, committer=author)
        repo.git.checkout("-q", "-b", "slow")
        with (folder / "mlx_lm" / "models" / "llama.py").open("a", encoding="utf-8") as source:
            source.write(PLANT)
        repo.git.add("--all")
        repo.index.commit("slow MLP", author=author, committer=author)
        repo.git.checkout("-q", "main")
    return folder


@needs_mlx
def test_a_planted_slow_layer_comes_first(
    planted: Path, make_track: MakeTrack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`profile --diff` names the layer whose MLP was made slow before all others, and stores both sides."""
    track = make_track({"overlay": ["mlx_lm"], "modules": ["mlx_lm"]}, repo=str(planted))

    def prepare(track: tracks.Track, repo_path: str, target: sides.Target, *_: Any) -> Prepared:
        assert target.commit is not None
        tree = sides.environments.lay_over(track, repo_path, target.commit.hash)
        return dataclasses.replace(installed.here(), overlay=tree, modules={"mlx_lm": str(tree)})

    # The environment at hand instead of one from a package index; all else is what a user gets.
    monkeypatch.setattr(sides, "prepare", prepare)
    target = tmp_path / "diff.json"
    arguments = ["--diff", "main", "slow", "--config", str(tmp_path / "asv.conf.json"), "--machine", "trial"]
    done = run(*arguments, "--launches", "3", "-r", "2", "-n", "4", "--json", str(target))
    assert done.exit_code == 0, done.exception
    document = json.loads(target.read_text("utf-8"))
    Draft202012Validator(OUTPUT).validate(document)
    assert document["parts"][0]["name"].startswith("model.layers.2.mlp")
    assert document["layers"][0]["name"] == "layer 2"
    assert document["parts"][0]["difference_s"] > 0
    folder = track.results_dir / "trial"
    assert {item.header.name for item in profiles.load(folder)} == {"main", "slow"}
    again = run(*arguments, "--from-results", "--top", "1")
    assert "layers.2.mlp" in again.stdout
    alone = run(
        "--from-results", "--at", "slow", "--config", str(tmp_path / "asv.conf.json"), "--machine", "trial"
    )
    assert "slow (slow MLP)" in alone.stdout
    listed = run("--from-results", "--config", str(tmp_path / "asv.conf.json"), "--machine", "trial")
    assert listed.stdout.count("tiny-float32") == 2
    assert not [path for path in folder.rglob("*.json") if path.name != "machine.json"]


def test_stored_profiles_that_were_not_taken_together(make_track: MakeTrack, tmp_path: Path) -> None:
    """Stored profiles of two runs are not set against each other, and a missing one is said to be missing."""
    track = make_track()
    for name in ("one", "two"):
        profiles.save(track.results_dir / "trial", profile(name=name, commit="", task=TASK))
    at = ["--from-results", "--config", str(tmp_path / "asv.conf.json"), "--machine", "trial"]
    assert "were not taken together" in str(run("--diff", "one", "two", *at).exception)
    assert "no profile of stage lora" in str(run("--at", "mlx==9", "--stage", "lora", *at).exception)
    assert "no profile is stored" in str(run(*at, "other").exception)


def test_a_name_in_a_file_is_a_slug(tmp_path: Path) -> None:
    """Versions and folders of models become names of files without separators."""
    task = dataclasses.replace(TASK, model="path:/models/../x")
    path = profiles.path_for(tmp_path, dataclasses.replace(HEADER, commit="", name="mlx==0.32.3", task=task))
    assert path.parent == tmp_path / profiles.FOLDER
    assert path.name.startswith(f"{comparisons.slug('mlx==0.32.3')}-toy-env.decode-path-models-")
