"""What we lean on in asv, asv_runner and asv-tachyon that none of them documents.

Each test holds one fact, in asv's own terms where that is possible. When one fails after an upgrade,
the module named in it needs another look.
"""

from __future__ import annotations

import inspect
import io
import json
import math
import os
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asv_tachyon
import pytest
from asv import environment, main, repo, runner, util
from asv.benchmarks import Benchmarks
from asv.commands import publish
from asv.config import Config
from asv.environment import Environment, EnvironmentUnavailable, get_env_name
from asv.machine import Machine, MachineCollection
from asv.plugin_manager import plugin_manager
from asv.plugins.git import Git
from asv.results import Results, get_filename, iter_results, iter_results_paths
from asv.runner import BenchmarkResult
from asv_runner import discovery
from asv_runner.benchmarks import mark
from asv_tachyon.cli import cmd_install

from mlx_velocity import asv_plugin, readings, releases

NAN = float("nan")

SUITE = '''
calls = []

def setup(*args):
    calls.append("module")

def time_free():
    pass

class Suite:
    """A suite."""
    params = (["a", "b"], [1, 2])
    param_names = ["letter", "number"]
    version = "7"
    repeat = (3, 10, 1.0)
    on_class = 5
    skip_params = [("b", 2)]

    def setup_cache(self):
        return {"kept": 1}

    def setup(self, cache, letter, number):
        calls.append("class")
        if letter == "b":
            raise NotImplementedError("b is not there")

    def teardown(self, cache, letter, number):
        calls.append("teardown")

    def time_it(self, cache, letter, number):
        calls.append((cache, letter, number))

    time_it.tokens_per_call = 32

    def track_it(self, cache, letter, number):
        return 12

    track_it.unit = "bytes"
    track_it.noise = "timing"
'''


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Folder of a suite with a file `stage.py`; importing it leaves nothing behind."""
    folder = tmp_path_factory.mktemp("facts") / "suite_of_facts"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "stage.py").write_text(SUITE, "utf-8")
    finders, modules = list(sys.meta_path), set(sys.modules)
    yield str(folder)
    sys.meta_path[:] = finders
    for name in set(sys.modules) - modules:
        if name.startswith("suite_of_facts"):
            del sys.modules[name]


@pytest.fixture(scope="module")
def described(suite: str) -> dict[str, dict[str, Any]]:
    """What asv_runner says of the suite, by name."""
    stream = io.StringIO()
    discovery.list_benchmarks(suite, stream)
    return {item["name"]: item for item in json.loads(stream.getvalue())}


def config(**settings: Any) -> Config:
    return Config.from_json({"project": "facts", "repo": "nowhere", **settings})


def results(commit: str = "0" * 40, env_name: str = "env") -> Results:
    params = {"machine": "box", "python": "3.11"}
    return Results(params, {"backend": "cpu"}, commit, 1_000_000, "3.11", env_name, {})


BENCHMARK = {
    "name": "stage.Suite.time_it",
    "version": "1",
    "params": [["'a'", "'b'", "'c'"]],
    "param_names": ["x"],
}
AT = datetime(2026, 1, 1, tzinfo=UTC)


def outcome(values: list[Any], samples: list[Any]) -> BenchmarkResult:
    return BenchmarkResult(values, samples, [1 if item else None for item in samples], None, "", None)


# --- plugins, repositories, environments: asv_plugin.py, tracks.py, environments.py


def test_only_a_name_with_a_leading_dot_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin `.name` is imported as a module; the same name without its dot is silently ignored."""
    (tmp_path / "a_plugin_of_facts.py").write_text("here = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = list(plugin_manager._plugins)
    try:
        plugin_manager.import_plugin("a_plugin_of_facts")
        assert "a_plugin_of_facts" not in sys.modules
        assert plugin_manager._plugins == before
        plugin_manager.import_plugin(".a_plugin_of_facts")
        assert sys.modules["a_plugin_of_facts"].here
    finally:
        plugin_manager._plugins[:] = before
        sys.modules.pop("a_plugin_of_facts", None)
    with pytest.raises(ImportError):
        plugin_manager.import_plugin(".a_plugin_that_is_not_there")


def test_defining_a_repo_is_registering_it() -> None:
    """`get_repo` looks for a subclass, at any depth, by `dvcs`, or else by `url_match`."""

    class Probe(Git):  # type: ignore[misc]
        dvcs = "dvcs-of-facts"

        def __init__(self, url: str, mirror_path: str) -> None:
            self.given = (url, mirror_path)

        @classmethod
        def url_match(cls, url: str) -> bool:
            return bool(url.startswith("fact:"))

    assert repo.get_repo(config(repo="x", dvcs="dvcs-of-facts")).given == ("x", "facts")
    assert repo.get_repo(config(repo="fact:x")).given == ("fact:x", "facts")
    with pytest.raises(util.UserError):
        repo.get_repo(config(repo="ftp://nobody"))
    with pytest.raises(util.UserError):
        repo.get_repo(config(repo="fact:x", dvcs="unheard-of"))


def test_ours_is_found_both_ways() -> None:
    """Stock asv finds the release history by `"dvcs": "releases"` and by its URL alone."""
    known = {cls.dvcs: cls for cls in util.iter_subclasses(repo.Repo) if hasattr(cls, "dvcs")}
    assert known["releases"] is asv_plugin.Releases
    matching = [cls for cls in util.iter_subclasses(repo.Repo) if cls.url_match("releases:mlx,mlx-lm")]
    assert matching == [asv_plugin.Releases]


def test_git_uses_a_bare_folder_in_place(tmp_path: Path) -> None:
    """asv's Git takes a folder with `objects` as it is: no clone, no fetch, `_path` says where it is."""
    listed = [releases.Release("2025-01-01T00:00:00Z", "mlx", "0.1"), releases.Release("2025-01-02T00:00:00Z", "mlx-lm", "0.1")]  # fmt: skip
    releases.build(tmp_path / "bare", listed)
    found = Git(str(tmp_path / "bare"), str(tmp_path / "mirror"))
    assert found._path == str(tmp_path / "bare")
    assert found._pulled
    assert not (tmp_path / "mirror").exists()
    found._default_branch = "main"
    assert found.get_branch_name(None) == "main"
    assert len(found.get_branch_commits(None)) == 1


def test_git_refuses_an_address_without_its_ending() -> None:
    """Git.url_match wants `.git` at the end of an https address: our tracks say `"dvcs": "git"`."""
    assert Git.url_match("https://github.com/ml-explore/mlx-lm.git")
    assert not Git.url_match("https://github.com/ml-explore/mlx-lm")


def test_the_name_of_an_environment() -> None:
    """An environment's name is its tool, its Python and its sorted requirements: file names are made of it."""
    assert get_env_name("velocity", "3.11", {"backend": "cpu"}, {}) == "velocity-py3.11-backendcpu"
    assert get_env_name("velocity", "3.11", {"z": "", "a": "1"}, {}) == "velocity-py3.11-a1-z"


def test_environment_reads_its_requirements_before_it_sets_them(tmp_path: Path) -> None:
    """Environment.__init__ needs `_requirements` from whoever subclasses it: asv's own plugins set it first."""

    class Bare(Environment):  # type: ignore[misc]
        tool_name = "bare-of-facts"

    class Prepared(Bare):
        tool_name = "prepared-of-facts"

        def __init__(self, conf: Any, python: str, requirements: Any, tagged: Any) -> None:
            self._requirements = requirements
            super().__init__(conf, python, requirements, tagged)

    conf = config(env_dir=str(tmp_path))
    with pytest.raises(AttributeError, match="_requirements"):
        Bare(conf, "3.11", {"backend": "cpu"}, {})
    made = Prepared(conf, "3.11", {"backend": "cpu"}, {})
    assert made.requirements == {"backend": "cpu"}
    assert made.name == "prepared-of-facts-py3.11-backendcpu"
    assert Path(made._path).parent == tmp_path


def test_defining_an_environment_is_registering_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`environment_type` picks our class by `tool_name`, with one environment for each of `pythons`."""
    monkeypatch.chdir(tmp_path)
    conf = config(
        environment_type="velocity", pythons=["3.11"], env_dir=str(tmp_path / "env"), results_dir="results/releases",
        mlx_velocity={"requirements": "requirements.txt", "backend": "cpu"},
    )  # fmt: skip
    assert environment.get_environment_class_by_name("velocity") is asv_plugin.Velocity
    (made,) = environment.get_environments(conf, None)
    assert made.name == "velocity-py3.11-backendcpu"
    assert made.requirements == {"backend": "cpu"}, "asv stores these as parameters of the series"
    assert made.env_vars == {}
    assert made.installed_commit_hash is None


def test_the_hooks_of_an_environment_are_there() -> None:
    """What our environment overrides or calls exists in asv's, under these names and arguments."""
    expected = {
        "matches": ["python"],
        "check_presence": [],
        "create": [],
        "checkout_project": ["repo", "commit_hash"],
        "install_project": ["conf", "repo", "commit_hash"],
        "find_executable": ["executable"],
        "run": ["args", "kwargs"],
        "run_executable": ["executable", "args", "kwargs"],
        "_get_installed_commit_hash": [],
        "_set_installed_commit_hash": ["commit_hash"],
        "_set_commit_hash": ["commit_hash"],
    }
    for name, arguments in expected.items():
        for cls in (Environment, asv_plugin.Velocity):
            found = [key for key in inspect.signature(getattr(cls, name)).parameters if key != "self"]
            assert found == arguments, f"{cls.__name__}.{name}"
    assert not issubclass(EnvironmentUnavailable, Exception)


def test_a_process_of_an_environment_gets_no_pythonpath_but_asvs_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """run_executable drops PYTHONPATH, and hands on ASV_PYTHONPATH under its name."""

    class Runs(Environment):  # type: ignore[misc]
        tool_name = "runs-of-facts"

        def __init__(self, conf: Any) -> None:
            self._requirements: dict[str, str] = {}
            super().__init__(conf, "3.11", {}, {})

        def find_executable(self, executable: str) -> str:
            return sys.executable

    made = Runs(config(env_dir=str(tmp_path)))
    code = ["-c", "import os; print(os.environ.get('PYTHONPATH'), os.environ.get('ASV_PYTHONPATH'))"]
    base = {**os.environ, "PYTHONPATH": "/of-the-user"}
    assert made.run_executable("python", code, env=base).strip() == "None None"
    assert (
        made.run_executable("python", code, env={**base, "ASV_PYTHONPATH": "/ours"}).strip() == "/ours None"
    )


def test_a_commit_that_cannot_be_installed_is_a_failed_build() -> None:
    """asv run goes on after a ProcessError of install_project; it is built from four things."""
    from asv.commands.run import _do_build

    class Fails:
        name = "fails"

        def install_project(self, *_: Any) -> None:
            raise util.ProcessError(["mlx", "0123abcd"], 1, "", "no wheel")

    name, (success, _) = _do_build((Fails(), None, None, "0123abcd"))
    assert (name, success) == ("fails", False)


def test_the_folder_of_the_configuration_is_where_asv_works() -> None:
    """asv changes into the configuration's folder: our plugin takes the working folder for the track's root."""
    assert re.search(
        r"os\.chdir\(os\.path\.dirname\(os\.path\.abspath\(args\.config\)\)\)", inspect.getsource(main)
    )


def test_unknown_keys_of_a_configuration_are_kept_and_ignored(tmp_path: Path) -> None:
    """A key that asv does not know becomes an attribute; comments are allowed, and lists have defaults."""
    path = tmp_path / "asv.conf.json"
    path.write_text('{\n// a word\n"version": 1, "repo": "x", "mlx_velocity": {"backend": "cpu"}}', "utf-8")
    conf = Config.load(str(path))
    assert conf.mlx_velocity == {"backend": "cpu"}
    assert conf.pythons == [f"{sys.version_info[0]}.{sys.version_info[1]}"]
    assert (conf.matrix, conf.branches, conf.plugins, conf.dvcs) == ({}, [None], [], None)


@pytest.mark.parametrize("text", ["{", "[]", "3", '{"version": 99, "repo": "x"}', '{"version": 1}', "{}"])
def test_a_broken_configuration_raises_one_of_three(tmp_path: Path, text: str) -> None:
    """Config.load answers a broken file with UserError, ValueError or TypeError: tracks.load catches these."""
    path = tmp_path / "asv.conf.json"
    path.write_text(text, "utf-8")
    with pytest.raises((util.UserError, ValueError, TypeError)):
        Config.load(str(path))


# --- benchmarks: cases.py, probe/measure.py, probe/worker.py


def test_attributes_of_a_function_reach_the_description(described: dict[str, Any]) -> None:
    """What is set on a benchmark's function is in benchmarks.json; what is set on its class is not."""
    timed, tracked = described["stage.Suite.time_it"], described["stage.Suite.track_it"]
    assert timed["tokens_per_call"] == 32
    assert (tracked["unit"], tracked["noise"]) == ("bytes", "timing")
    assert "noise" not in timed
    assert "on_class" not in timed


def test_the_fields_that_a_description_has(described: dict[str, Any]) -> None:
    """A description names what a case is made of: parameters as text, version, rounds of timed ones only."""
    timed = described["stage.Suite.time_it"]
    assert timed["params"] == [["'a'", "'b'"], ["1", "2"]]
    assert timed["param_names"] == ["letter", "number"]
    assert (timed["version"], timed["type"], timed["unit"]) == ("7", "time", "seconds")
    assert timed["rounds"] >= 1
    assert "timeout" not in timed, "without one of its own, the configuration's default holds"
    assert "rounds" not in described["stage.Suite.track_it"]
    assert described["stage.time_free"]["params"] == []


def test_a_case_is_addressed_by_its_place_in_the_product(suite: str) -> None:
    """`name-index` counts through the product of the parameters, the last one fastest."""
    expected = [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    for index, params in enumerate(expected):
        found = discovery.get_benchmark_from_name(suite, f"stage.Suite.time_it-{index}")
        assert found._current_params == params
    assert discovery.get_benchmark_from_name(suite, "stage.time_free")._current_params == ()
    with pytest.raises(ValueError, match="index"):
        discovery.get_benchmark_from_name(suite, "stage.Suite.time_it-4")
    with pytest.raises(ValueError, match="find"):
        discovery.get_benchmark_from_name(suite, "stage.Suite.time_other-0")


def test_the_parts_of_a_benchmark_that_we_drive(suite: str) -> None:
    """The private parts that probe/measure.py uses: the cache, the setups, the skips, the attributes."""
    found = discovery.get_benchmark_from_name(suite, "stage.Suite.time_it-0")
    assert found.setup_cache_key is not None
    assert found.do_setup_cache() == {"kept": 1}
    found.set_cache({"kept": 1})
    assert found._current_params == ("a", 1), "the cache is kept apart from the parameters"
    assert found._build_params() == ({"kept": 1}, "a", 1)
    assert found._skip_tuples == [("b", 2)]
    assert (found.name, found.type, found.repeat, found.warmup_time) == (
        "stage.Suite.time_it", "time", (3, 10, 1.0), -1,
    )  # fmt: skip
    found.set_cache(None)
    assert found._build_params() == ("a", 1), "no cache, no argument"


def test_setups_run_from_the_module_inwards(suite: str) -> None:
    """`_setups` are bound, outermost first; `do_teardown` runs after; `do_run` is the call itself for a track."""
    found = discovery.get_benchmark_from_name(suite, "stage.Suite.track_it-0")
    calls = sys.modules["suite_of_facts.stage"].calls
    calls.clear()
    found.set_cache({"kept": 1})
    for setup in found._setups:
        setup(*found._build_params())
    assert found.do_run() == 12
    found.do_teardown()
    assert calls == ["module", "class", "teardown"]
    timed = discovery.get_benchmark_from_name(suite, "stage.Suite.time_it-0")
    timed.func("cache", "a", 1)
    assert calls[-1] == ("cache", "a", 1)


def test_a_setup_declines_with_not_implemented(suite: str) -> None:
    """A setup skips its case with NotImplementedError, a body with SkipNotImplemented, which is one too."""
    found = discovery.get_benchmark_from_name(suite, "stage.Suite.time_it-2")
    found.set_cache({})
    of_module, of_class = found._setups
    of_module(*found._build_params())
    with pytest.raises(NotImplementedError, match="b is not there"):
        of_class(*found._build_params())
    assert found.do_setup() is True
    assert issubclass(mark.SkipNotImplemented, NotImplementedError)
    assert str(mark.SkipNotImplemented("why")) == "why"


def test_samples_of_a_dictionary_are_taken_as_samples() -> None:
    """A benchmark that returns `samples` and `number` is stored like a timed one: measure.tracked does the same."""

    class Spawner:
        def run(self, result_file_name: str, **_: Any) -> tuple[str, int]:
            Path(result_file_name).write_text('{"samples": [3, 1, 2], "number": 1}', "utf-8")
            return "", 0

    benchmark = {**BENCHMARK, "params": [], "timeout": 1}
    got = runner.run_benchmark(benchmark, Spawner(), profile=False)
    assert (got.samples, got.number) == ([[3, 1, 2]], [1])
    made = results()
    made.add_result(benchmark, got, AT, 1.0, record_samples=True)
    assert made.get_result_value(BENCHMARK["name"], []) == [2]


def test_benchmarks_are_written_where_the_configuration_points(tmp_path: Path) -> None:
    """Benchmarks.save writes `benchmarks.json` of version 2 into the results folder of `_conf`."""
    held = Benchmarks(config(results_dir="/nowhere"), [dict(BENCHMARK)])
    held._conf = SimpleNamespace(results_dir=str(tmp_path))
    held.save()
    stored = json.loads((tmp_path / "benchmarks.json").read_text("utf-8"))
    assert stored == {BENCHMARK["name"]: BENCHMARK, "version": 2}
    loaded = Benchmarks.load(SimpleNamespace(results_dir=str(tmp_path), benchmark_dir="benchmarks"))
    assert dict(loaded) == {BENCHMARK["name"]: BENCHMARK}


def test_an_expression_selects_cases_by_their_text() -> None:
    """`--bench` is searched in `name(param, param)` with the parameters as written, quotes included."""
    held = Benchmarks(config(), [dict(BENCHMARK)], regex=r"time_it\('b'\)")
    assert held.benchmark_selection == {BENCHMARK["name"]: [1]}
    assert Benchmarks(config(), [dict(BENCHMARK)], regex=r"time_it\(b\)") == {}


def test_reading_benchmarks_that_are_not_there_is_a_user_error(tmp_path: Path) -> None:
    """Benchmarks.load raises UserError for a missing or broken file."""
    conf = SimpleNamespace(results_dir=str(tmp_path), benchmark_dir="benchmarks")
    with pytest.raises(util.UserError):
        Benchmarks.load(conf)
    (tmp_path / "benchmarks.json").write_text("{", "utf-8")
    with pytest.raises(util.UserError):
        Benchmarks.load(conf)


# --- results: results.py, site/publish.py


def test_the_name_of_a_result_file() -> None:
    """A result is `<machine>/<8 characters>-<environment>.json`; a long environment's name is hashed."""
    assert get_filename("box", "0123456789abcdef", "env") == os.path.join("box", "01234567-env.json")
    long = get_filename("box", "0123456789abcdef", "e" * 128)
    assert re.fullmatch(r"01234567-env-[0-9a-f]{32}\.json", Path(long).name)


def test_a_result_is_saved_under_its_private_name(tmp_path: Path) -> None:
    """Results.save writes to `_filename` below the folder it is given: that is how we write elsewhere first."""
    made = results("a" * 40)
    assert made._filename == os.path.join("box", "aaaaaaaa-env.json")
    made._filename = os.path.join("other", "name.json")
    made.save(str(tmp_path))
    stored = json.loads((tmp_path / "other" / "name.json").read_text("utf-8"))
    assert (stored["commit_hash"], stored["env_name"], stored["date"]) == ("a" * 40, "env", 1_000_000)
    assert (stored["params"], stored["requirements"]) == (
        {"machine": "box", "python": "3.11"},
        {"backend": "cpu"},
    )
    loaded = Results.load(str(tmp_path / "other" / "name.json"), machine_name="box")
    assert loaded._filename == os.path.join("other", "name.json")


def test_null_is_a_failure_and_nan_was_not_measured(tmp_path: Path) -> None:
    """In a result file null means failed and NaN means skipped or not measured; both lose their samples."""
    made = results()
    made.add_result(
        BENCHMARK, outcome([1.0, None, NAN], [[1.0, 3.0], [5.0], [6.0]]), AT, 2.0, record_samples=True
    )
    made.save(str(tmp_path))
    path = tmp_path / "box" / "00000000-env.json"
    row = json.loads(path.read_text("utf-8"))["results"][BENCHMARK["name"]]
    assert row[0][1] is None
    assert math.isnan(row[0][2])
    loaded = Results.load(str(path))
    value = loaded.get_result_value(BENCHMARK["name"], BENCHMARK["params"])
    assert value[0] == 2.0, "asv takes the median of the samples, not the value that is given"
    assert loaded.get_result_samples(BENCHMARK["name"], BENCHMARK["params"]) == [[1.0, 3.0], None, None]
    assert util.is_na(None)
    assert util.is_na(NAN)


def test_selected_indices_leave_the_others_as_they_were() -> None:
    """add_result(selected_idx=…) takes only these indices and keeps value, samples and statistics of the rest."""
    made = results()
    made.add_result(BENCHMARK, outcome([1.0, 2.0, 3.0], [[1.0], [2.0], [3.0]]), AT, 1.0, record_samples=True)
    made.add_result(
        BENCHMARK, outcome([9.0, NAN, NAN], [[9.0], None, None]), AT, 1.0, record_samples=True, selected_idx={0}
    )  # fmt: skip
    key, params = BENCHMARK["name"], BENCHMARK["params"]
    assert made.get_result_value(key, params) == [9.0, 2.0, 3.0]
    assert made.get_result_samples(key, params) == [[9.0], [2.0], [3.0]]
    assert [item["repeat"] for item in made.get_result_stats(key, params)] == [1, 1, 1]


def test_a_new_version_drops_what_the_old_one_measured() -> None:
    """Values of another version of a benchmark are neither kept by add_result nor shown."""
    made = results()
    made.add_result(BENCHMARK, outcome([1.0, 2.0, 3.0], [[1.0], [2.0], [3.0]]), AT, 1.0, record_samples=True)
    newer = {**BENCHMARK, "version": "2"}
    made.add_result(newer, outcome([9.0, NAN, NAN], [[9.0], None, None]), AT, 1.0, selected_idx={0})
    value = made.get_result_value(BENCHMARK["name"], BENCHMARK["params"])
    assert value[0] == 9.0
    assert all(math.isnan(item) for item in value[1:])
    assert made.get_result_keys({BENCHMARK["name"]: BENCHMARK}) == set()
    assert made.get_result_keys({BENCHMARK["name"]: newer}) == {BENCHMARK["name"]}


def test_samples_are_stored_only_on_request() -> None:
    """Without record_samples the raw samples are gone, and the statistics stay."""
    made = results()
    made.add_result(BENCHMARK, outcome([1.0, 2.0, 3.0], [[1.0], [2.0], [3.0]]), AT, 1.0)
    assert made.get_result_samples(BENCHMARK["name"], BENCHMARK["params"]) == [None, None, None]
    assert made.get_result_stats(BENCHMARK["name"], BENCHMARK["params"])[0]["number"] == 1


def test_parameters_that_came_later_have_no_value() -> None:
    """A stored result is read by its own parameters: a value that the benchmark gained since is None."""
    made = results()
    made.add_result(BENCHMARK, outcome([1.0, 2.0, 3.0], [[1.0], [2.0], [3.0]]), AT, 1.0)
    assert made.get_result_value(BENCHMARK["name"], [["'c'", "'new'"]]) == [3.0, None]


def stored(tmp_path: Path) -> Path:
    made = results()
    made.add_result(BENCHMARK, outcome([1.0, 2.0, 3.0], [[1.0], [2.0], [3.0]]), AT, 1.0, record_samples=True)
    made.save(str(tmp_path))
    return tmp_path / "box" / "00000000-env.json"


def test_a_column_that_asv_does_not_know_makes_it_refuse_the_file(tmp_path: Path) -> None:
    """An unknown entry of result_columns is a UserError; an unknown key beside it is dropped on saving."""
    path = stored(tmp_path)
    content = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**content, "ours": 1}), "utf-8")
    loaded = Results.load(str(path))
    loaded.save(str(tmp_path))
    assert "ours" not in json.loads(path.read_text("utf-8"))
    content["result_columns"].append("ours")
    content["results"][BENCHMARK["name"]] += [None] * 20
    path.write_text(json.dumps(content), "utf-8")
    with pytest.raises(util.UserError, match="ours"):
        Results.load(str(path))


BROKEN = [
    "",
    "{",
    "[]",
    "3",
    "null",
    '{"version": 2}',
    '{"version": 1}',
    '{"version": 3}',
    '{"version": 2, "results": 3}',
]


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_result_raises_one_of_six(tmp_path: Path, text: str) -> None:
    """Results.load answers a broken file with one of the errors that results.py and site/publish.py catch."""
    path = tmp_path / "box" / "00000000-env.json"
    path.parent.mkdir()
    path.write_text(text, "utf-8")
    with pytest.raises((util.UserError, ValueError, TypeError, KeyError, AttributeError, IndexError)):
        Results.load(str(path), machine_name="box")


def test_a_result_of_another_machine_is_refused(tmp_path: Path) -> None:
    """Results.load(machine_name=…) raises UserError where the file says another machine."""
    with pytest.raises(util.UserError, match="machine"):
        Results.load(str(stored(tmp_path)), machine_name="other")


def test_asv_looks_at_json_files_beside_a_machine_only(tmp_path: Path) -> None:
    """asv takes `*.json` of folders that have a machine.json, and leaves our own files alone."""
    path = stored(tmp_path)
    (path.parent / "machine.json").write_text('{"machine": "box", "version": 1}', "utf-8")
    stem = path.name.removesuffix(".json")
    ours = [
        f"{stem}{readings.SUFFIX}",
        f"{path.name}.corrupt-20260101T000000",
        f"{stem}{readings.SUFFIX}.corrupt-20260101T000000",
        f".{path.name}.123.new",
    ]
    for name in ours:
        (path.parent / name).write_text("not JSON", "utf-8")
    (tmp_path / "benchmarks.json").write_text("{}", "utf-8")
    (tmp_path / "nobody").mkdir()
    (tmp_path / "nobody" / "00000000-env.json").write_text("{}", "utf-8")
    assert list(iter_results_paths(str(tmp_path))) == [(str(path.parent), path.name, "box")]


def test_one_malformed_file_stops_all_of_asv(tmp_path: Path) -> None:
    """asv passes over a file that is not JSON; one that is no result stops it, so we keep such files from it."""
    path = stored(tmp_path)
    (path.parent / "machine.json").write_text('{"machine": "box", "version": 1}', "utf-8")
    other = path.with_name("11111111-env.json")
    other.write_text("{", "utf-8")
    assert len(list(iter_results(str(tmp_path)))) == 1
    other.write_text("[]", "utf-8")
    assert len(list(iter_results(str(tmp_path)))) == 1
    other.write_text('["version"]', "utf-8")
    with pytest.raises(TypeError):
        list(iter_results(str(tmp_path)))


def test_extra_keys_of_a_machine_are_kept(tmp_path: Path) -> None:
    """A machine may say more than asv's fields, such as its GPU: asv stores it and makes a dimension of it."""
    file = tmp_path / "machines.json"
    MachineCollection.save("box", {"machine": "box", "gpu": "none", "version": 1}, _path=str(file))
    loaded = Machine.load(machine_name="box", _path=str(file))
    assert loaded.__dict__["gpu"] == "none"
    loaded.save(str(tmp_path))
    assert json.loads((tmp_path / "box" / "machine.json").read_text("utf-8"))["gpu"] == "none"
    assert "dict(machine_params.__dict__)" in inspect.getsource(sys.modules["asv.commands.run"])


def test_publish_takes_its_folders_and_its_repository_from_the_configuration() -> None:
    """Publish.run(conf, pull=False) reads results_dir, html_dir, repo and dvcs of what it is given, and no more."""
    parameters = inspect.signature(publish.Publish.run).parameters
    assert list(parameters) == ["conf", "range_spec", "pull"]
    used = set(re.findall(r"\bconf\.(\w+)", inspect.getsource(publish.Publish.run)))
    assert used == {
        "branches", "hash_length", "html_dir", "project", "project_url", "results_dir", "show_commit_url",
    }  # fmt: skip


# --- the site's interface: site/publish.py


def bundle() -> str:
    """The scripts of asv-tachyon's interface."""
    assets = Path(asv_tachyon.__file__).parent / "static" / "assets"
    return "".join(path.read_text("utf-8") for path in sorted(assets.glob("*.js")))


def test_the_interface_installs_over_published_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """asv-tachyon copies its page and its assets, keeps the data, and backs up nothing unless asked."""
    with pytest.raises(SystemExit):
        cmd_install(tmp_path, backup=False)
    (tmp_path / "index.json").write_text("{}", "utf-8")
    (tmp_path / "index.html").write_text("old", "utf-8")
    assert cmd_install(tmp_path, backup=False) == 0
    assert {path.name for path in tmp_path.iterdir()} >= {"index.html", "index.json", "assets"}
    assert not (tmp_path / "index.legacy.html").exists()
    assert (tmp_path / "index.html").read_text("utf-8") != "old"
    assert capsys.readouterr().out


def test_the_interface_takes_more_for_better_unless_it_is_told() -> None:
    """asv-tachyon's rule: `less_is_better` decides, and without it a tracked number counts as the more the better."""
    rule = r"less_is_better===!1\?!0:\w+\.less_is_better===!0\?!1:!!\(.{0,80}\"track\"\)"
    assert re.search(rule, bundle())


def test_the_interface_reads_commits_by_their_hash() -> None:
    """asv-tachyon fetches commits.json beside the page: an object of hashes, each with a line of text."""
    # A key of digits alone is a revision, every other one a hash; what is no plain value is passed over.
    found = re.search(r"fetch\(`\$\{\w+\}commits\.json`\).{0,900}", bundle())
    assert found
    assert re.search(r"Object\.entries\(\w\)\)\{if\(\w==null\|\|typeof \w==\"object\"\)continue", found[0])
    assert re.search(r"/\^\\d\+\$/\.test\(\w\)\?", found[0])
