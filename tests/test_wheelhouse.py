"""Environments from a folder of wheels: nothing from an index, what lacks is named, and what is here is inherited."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeTrack, Office, Store, benchmark, case_of, one_line

from mlx_velocity import cuda_libraries, environments, records, results, scheduler, tracks
from mlx_velocity.environments import Prepared
from mlx_velocity.errors import EnvironmentFailure, InputError, Interrupted, MeasurementError
from mlx_velocity.history import Commit
from mlx_velocity.offline import fill, manifest, sources, wheels
from mlx_velocity.offline.fill import Machine, Need
from mlx_velocity.requirements import RequirementSet

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
FAR = Machine("manylinux_2_35_x86_64", "3.13", "cuda")
HARNESS = ("asv_runner", "psutil", "nvidia_ml_py", "zeus_apple_silicon")


def wheel(
    folder: Path, name: str, version: str, *requires: str, tag: str = "py3-none-any", size: int = 0
) -> Path:
    """A wheel of one module that knows its version."""
    folder.mkdir(parents=True, exist_ok=True)
    path, info = folder / f"{name}-{version}-{tag}.whl", f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {item}\n" for item in requires)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{name}/__init__.py", f"__version__ = '{version}'\n" + "#" * size)
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        file.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        file.writestr(
            f"{info}/RECORD", f"{name}/__init__.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        )
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty wheelhouse, where neither an index nor a cache can help."""
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "wheels").mkdir()
    return tmp_path / "wheels"


@pytest.fixture
def at_hand(make_track: MakeTrack, folder: Path) -> Any:
    """Assembles the environment of some pins from the wheelhouse."""

    def assemble(*pins: str, inherit: bool = False) -> Prepared:
        sources._usable.cache_clear()
        sources._checked.cache_clear()
        settings = {"overlay": [], "modules": ["toy"], "wheelhouse": str(folder), "inherit": inherit}
        return environments.assemble(make_track(settings), list(pins), None)

    return assemble


def run(prepared: Prepared, code: str) -> str:
    command = [str(prepared.python), "-c", code]
    done = subprocess.run(command, env=prepared.variables(), capture_output=True, text=True, check=True)
    return done.stdout.strip()


# Environments


def test_all_comes_from_the_folder(at_hand: Any, folder: Path) -> None:
    """An environment is made from the wheels in a folder, without an index, and nothing of this Python is in it."""
    for name in HARNESS:
        wheel(folder, name, "99.0")
    wheel(folder, "toy", "1.0", "part>=2")
    wheel(folder, "part", "2.1")
    made = at_hand("toy==1.0")
    assert made.record.packages["toy"] == "1.0"
    assert made.record.packages["psutil"] == "99.0"
    assert made.record.inherited == []
    assert run(made, "import toy, part; print(toy.__version__, part.__version__)") == "1.0 2.1"


def test_what_is_here_is_inherited_and_nothing_else(at_hand: Any, folder: Path) -> None:
    """With --inherit, this Python gives what the folder lacks and is needed; it is recorded, and the rest is unseen."""
    wheel(folder, "toy", "1.0", "rich", "iniconfig")
    wheel(folder, "iniconfig", "99.0")
    made = at_hand("toy==1.0", inherit=True)
    assert {"psutil", "rich", "asv-runner"} <= set(made.record.inherited)
    assert made.record.packages["psutil"] == importlib.metadata.version("psutil")
    assert made.record.packages["iniconfig"] == "99.0"
    assert not {"toy", "iniconfig", "pytest"} & set(made.record.inherited)
    code = "import importlib.util as u, toy, rich.console, iniconfig; print(iniconfig.__version__, u.find_spec('pytest'))"
    assert run(made, code) == "99.0 None"
    assert records.from_dict(json.loads(json.dumps(records.to_dict(made.record)))) == made.record


def test_what_is_measured_is_never_inherited(at_hand: Any, folder: Path) -> None:
    """mlx comes from the folder, though this Python may have one: without its wheel there is no environment."""
    wheel(folder, "toy", "1.0", "mlx")
    with pytest.raises(EnvironmentFailure, match="the wheelhouse lacks mlx"):
        at_hand("toy==1.0", "mlx==0.32.4", inherit=True)


def test_the_version_asked_for_counts(at_hand: Any, folder: Path) -> None:
    """An exact version that this Python has not is no reason to take the one that it has."""
    with pytest.raises(EnvironmentFailure, match=r"lacks rich==0\.0\.1"):
        at_hand("rich==0.0.1", inherit=True)


def test_another_wheel_is_another_environment(at_hand: Any, folder: Path) -> None:
    """A wheel that was built again under the same version is installed again."""
    wheel(folder, "toy", "1.0")
    first = at_hand("toy==1.0", inherit=True)
    wheel(folder, "toy", "1.0", size=10)
    second = at_hand("toy==1.0", inherit=True)
    assert first.path != second.path


def test_a_wheel_that_lacks_is_named(at_hand: Any, folder: Path) -> None:
    """The reason says which wheel is missing and what there is; it is a failure that may pass, no incompatibility."""
    wheel(folder, "toy", "1.0", "absent-part")
    wheel(folder, "torn", "1.0").write_bytes(b"PK")
    wheel(folder, "toy", "3.0", tag="cp27-cp27m-manylinux1_x86_64")
    for pin, reason in (
        ("toy==2.0", f"the wheelhouse lacks toy==2.0 for Python {HERE} on this machine (it has toy 1.0)"),
        ("toy==3.0", f"the wheelhouse lacks toy==3.0 for Python {HERE} on this machine (it has toy 1.0)"),
        ("toy==1.0", "the wheelhouse lacks absent-part: "),
        ("torn==1.0", "the wheelhouse lacks torn==1.0: "),
    ):
        with pytest.raises(EnvironmentFailure) as error:
            at_hand(pin, inherit=True)
        assert error.value.message.startswith(reason)
        assert not error.value.incompatible


def test_a_wheel_that_comes_later_is_measured(
    monkeypatch: pytest.MonkeyPatch, make_track: MakeTrack, store: Store, office: Office, tmp_path: Path
) -> None:
    """A commit whose wheel lacked is tried again by itself, its reason stands once, and is gone when it is measured."""
    commit, toy = Commit("ab" * 20, 1_767_225_600, "toy 1"), benchmark("toy.time_it")
    answers: list[Any] = [EnvironmentFailure("the wheelhouse lacks toy==1.0")] * 2
    made = Prepared("toy-env", tmp_path, records.Environment("toy-env", "cpu", HERE, [], {}))
    answers.append(made)

    def prepare(*_: Any) -> Prepared:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(scheduler.environments, "prepare", prepare)
    stored: list[results.CommitResults] = []
    for _ in range(3):
        stored.append(store(commit.hash))
        plan = scheduler.plan(stored[-1], commit, [case_of(toy)], None)
        scheduler.run_plans(
            make_track(), "", [plan], {"toy.time_it": toy}, profile="tiny", start_worker=office
        )
    failures = [[item for item in one.stored if isinstance(item, records.Failure)] for one in stored]
    assert [len(found) for found in failures] == [1, 1, 0]
    assert len(office.measured()) == 2


def test_a_damaged_wheel_stops_at_once(at_hand: Any, folder: Path) -> None:
    """A wheel that is not what the manifest says is named before anything is installed from it."""
    path = wheel(folder, "toy", "1.0")
    whole = manifest.Manifest("x", HERE, "cpu", "toy", wheels=[manifest.entry(path, "toy", "1.0")])
    manifest.write(folder, whole)
    assert manifest.read(folder) == whole
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(InputError) as error:
        at_hand("toy==1.0", inherit=True)
    assert "toy-1.0-py3-none-any.whl" in one_line(error)


@pytest.mark.parametrize("text", ["", "{}", '{"format": 2}', "[1]"])
def test_a_manifest_that_is_none(folder: Path, text: str) -> None:
    """A broken or newer manifest is one line with an advice."""
    (folder / manifest.NAME).write_text(text, "utf-8")
    with pytest.raises(InputError) as error:
        manifest.read(folder)
    assert manifest.NAME in one_line(error)


def test_a_wheelhouse_that_needs_a_python_says_so(folder: Path, tmp_path: Path) -> None:
    """A folder that was filled for --inherit is not used without, and one that does not exist not at all."""
    manifest.write(folder, manifest.Manifest("x", HERE, "cuda", "toy", left_out=["*"]))
    for given in ((folder, False, HERE), (tmp_path / "none", False, HERE), (folder, True, "3.1")):
        with pytest.raises(InputError) as error:
            sources.of(*given)
        one_line(error)
    assert sources.of(folder, True, HERE).inherited is not None


def test_settings_and_variables(
    make_track: MakeTrack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A machine's own variables name the wheelhouse for every track, and an option wins over both."""
    path = tmp_path / "asv.conf.json"
    assert make_track({"wheelhouse": "mine"}).settings.wheelhouse == str(tmp_path / "mine")
    monkeypatch.setenv(tracks.WHEELHOUSE_VARIABLE, str(tmp_path / "theirs"))
    monkeypatch.setenv(tracks.INHERIT_VARIABLE, "1")
    found = tracks.load(path).settings
    assert (found.wheelhouse, found.inherit) == (str(tmp_path / "theirs"), True)
    assert tracks.load(path, wheelhouse=tmp_path / "given").settings.wheelhouse == str(tmp_path / "given")
    monkeypatch.setenv(tracks.INHERIT_VARIABLE, "0")
    assert tracks.load(path).settings.inherit is False


# CUDA's libraries


def test_cuda_libraries_may_be_elsewhere(folder: Path) -> None:
    """A CUDA library that nobody has is left to the import; any other package is not."""
    wheel(folder, "mlx_cuda_13", "1.0", "nvidia-nowhere", "elsewhere")
    wheel(folder, "mlx", "1.0", "mlx-cuda-13==1.0; extra == 'cuda13'")
    sources._usable.cache_clear()
    left = sources.of(folder, True, HERE).left_to_inherited(RequirementSet(("mlx[cuda13]==1.0",), ""))
    assert "nvidia-nowhere" in left
    assert not {"elsewhere", "mlx", "mlx-cuda-13", "mlx-lm"} & set(left)


def test_where_cuda_is_found(tmp_path: Path) -> None:
    """All folders with NVIDIA's libraries are searched, behind the user's own, and the headers' home is named once."""
    (tmp_path / "nvidia/cu13/lib").mkdir(parents=True)
    (tmp_path / "nvidia/cudnn/lib").mkdir(parents=True)
    (tmp_path / "nvidia/cu13/include").mkdir()
    (tmp_path / "nvidia/cu13/include/cuda_runtime.h").touch()
    found = cuda_libraries.variables([tmp_path / "none", tmp_path], {"LD_LIBRARY_PATH": "/driver"})
    assert found == {
        "LD_LIBRARY_PATH": f"/driver:{tmp_path}/nvidia/cu13/lib:{tmp_path}/nvidia/cudnn/lib",
        "CUDA_HOME": f"{tmp_path}/nvidia/cu13",
    }
    assert "CUDA_HOME" not in cuda_libraries.variables([tmp_path], {"CUDA_PATH": "/mine"})
    assert cuda_libraries.variables([tmp_path / "none"], {}) == {}


# Platforms


@pytest.mark.parametrize(
    ("platform", "takes", "refuses"),
    [
        ("manylinux_2_35_x86_64", ["manylinux_2_35_x86_64", "manylinux2014_x86_64", "manylinux1_x86_64"], ["manylinux_2_36_x86_64", "manylinux_2_17_aarch64"]),
        ("manylinux_2_28_aarch64", ["manylinux_2_17_aarch64", "manylinux2014_aarch64"], ["manylinux_2_12_aarch64"]),
        ("macosx_14_0_arm64", ["macosx_14_0_arm64", "macosx_11_0_arm64", "macosx_13_0_universal2"], ["macosx_15_0_arm64", "macosx_14_0_x86_64"]),
    ],
)  # fmt: skip
def test_a_platform_takes_what_is_older(platform: str, takes: list[str], refuses: list[str]) -> None:
    """A machine runs what was built for an older glibc or macOS, and nothing newer or for another processor."""
    found = {tag.platform for tag in wheels.tags_of(platform, "3.12")}
    assert set(takes) <= found
    assert not set(refuses) & found
    assert {tag.interpreter for tag in wheels.tags_of(platform, "3.12")} >= {"cp312", "py3"}


@pytest.mark.parametrize(
    ("platform", "python"), [("linux", "3.12"), ("win_amd64", "3.12"), ("manylinux_2_35_x86_64", "3")]
)
def test_a_platform_that_is_none(platform: str, python: str) -> None:
    """A platform or a Python that no wheel is made for is one line with an advice."""
    with pytest.raises(InputError) as error:
        wheels.tags_of(platform, python)
    one_line(error)


# Filling


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the index: for uv, and for pip, which takes seconds a wheel and has a test of its own."""
    place = tmp_path / "index"
    for name in HARNESS:
        wheel(place, name, "1.0")
    wheel(
        place,
        "mlx",
        "0.32.0",
        "mlx-cuda-13==0.32.0; extra == 'cuda13'",
        tag="cp313-cp313-manylinux_2_35_x86_64",
    )
    wheel(place, "mlx_cuda_13", "0.32.0", "nvidia-cudnn-cu13", tag="py3-none-manylinux_2_35_x86_64")
    wheel(place, "nvidia_cudnn_cu13", "9.0", tag="py3-none-manylinux_2_27_x86_64")
    (tmp_path / "uv.toml").write_text(f"no-index = true\nfind-links = ['{place}']\n", "utf-8")
    monkeypatch.setenv("UV_CONFIG_FILE", str(tmp_path / "uv.toml"))
    monkeypatch.setenv("PIP_FIND_LINKS", str(place))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)

    def download(folder: Path, pin: str, machine: Machine) -> wheels.Wheel:
        found = fill.find(place, pin, machine)
        if found is None:
            raise EnvironmentFailure(f"the index has no wheel of {pin}")
        shutil.copy(found.path, folder)
        copied = fill.find(folder, pin, machine)
        assert copied is not None
        return copied

    monkeypatch.setattr(fill, "download", download)
    return place


DOWNLOAD = fill.download


def need(number: int, *pins: str) -> Need:
    return Need(f"{number:x}" * 40, f"toy {number}", RequirementSet(pins, ""))


def filled(folder: Path, *needs: Need, left_out: tuple[str, ...] = (), machine: Machine = FAR) -> fill.Filled:
    return fill.fill(folder, machine, needs, "toy", left_out, False, lambda *_: None)


def test_fill_for_another_machine(folder: Path, index: Path) -> None:
    """The folder gets what another platform and Python need, hashed; a second time nothing is downloaded."""
    done = filled(folder, need(1, "mlx[cuda13]==0.32.0"))
    assert {item.name for item in done.manifest.wheels} >= {
        "mlx",
        "mlx-cuda-13",
        "nvidia-cudnn-cu13",
        "psutil",
    }
    assert done.manifest.commits == ["1" * 40]
    assert manifest.read(folder) == done.manifest
    manifest.check(folder, done.manifest)
    again = filled(folder, need(1, "mlx[cuda13]==0.32.0"))
    assert (again.downloaded, again.manifest) == (0, done.manifest)


def test_pip_brings_wheels_for_another_machine(
    folder: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One wheel comes through pip itself, for a platform and a Python that are not ours; one that is not there is named."""
    monkeypatch.setattr(fill, "download", DOWNLOAD)
    found = fill.download(folder, "mlx==0.32.0", FAR)
    assert found.path == folder / "mlx-0.32.0-cp313-cp313-manylinux_2_35_x86_64.whl"
    with pytest.raises(EnvironmentFailure, match=r"no wheel of mlx==0\.32\.0 for manylinux_2_34_x86_64"):
        fill.download(folder, "mlx==0.32.0", Machine("manylinux_2_34_x86_64", "3.13", "cuda"))
    assert list(folder.iterdir()) == [found.path]


def test_what_is_there_stays_away(folder: Path, index: Path) -> None:
    """What the other Python has is left out, by a pattern or all of it; what is measured and its worker never are."""
    some = filled(folder, need(1, "mlx[cuda13]==0.32.0"), left_out=("nvidia-*",))
    assert {item.name for item in some.manifest.wheels} == {
        "mlx",
        "mlx-cuda-13",
        "psutil",
        "asv-runner",
        "nvidia-ml-py",
    }
    rest = filled(folder.with_name("rest"), need(1, "mlx[cuda13]==0.32.0"), left_out=("*",))
    assert rest.manifest.wheels == some.manifest.wheels
    assert rest.manifest.left_out == ["*"]


def test_what_the_index_lacks_is_told(folder: Path, index: Path) -> None:
    """A commit without wheels is listed with its reason, and comes off the list once they are there."""
    wheel(index, "toy", "1.0", tag="cp39-cp39-macosx_11_0_arm64")
    done = filled(folder, need(1, "mlx==0.32.0"), need(2, "toy==1.0"))
    assert done.manifest.commits == ["1" * 40]
    assert [(item.commit, "toy" in item.reason) for item in done.lacking] == [("2" * 40, True)]
    wheel(index, "toy", "1.0")
    done = filled(folder, need(2, "toy==1.0"))
    assert (done.manifest.commits, done.manifest.lacking) == (["1" * 40, "2" * 40], [])


def test_an_interrupted_filling_goes_on(folder: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was there before a Ctrl-C is kept and not fetched again; the commit is not said to be complete."""
    real, left = fill.download, [2]

    def interrupted(*given: Any) -> Any:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(fill, "download", interrupted)
        with pytest.raises(KeyboardInterrupt):
            filled(folder, need(1, "mlx[cuda13]==0.32.0"))
    found = manifest.read(folder)
    assert found is not None
    assert (len(found.wheels), found.commits) == (2, [])
    assert not list(folder.glob(".partial-*"))
    done = filled(folder, need(1, "mlx[cuda13]==0.32.0"))
    assert (done.downloaded, len(done.manifest.wheels), done.manifest.commits) == (4, 6, ["1" * 40])


def test_a_folder_for_one_machine(folder: Path, index: Path) -> None:
    """A folder that was filled for one machine is not mixed with the wheels of another."""
    filled(folder, need(1, "mlx==0.32.0"))
    with pytest.raises(InputError, match=r"was filled for python 3\.13"):
        filled(folder, machine=Machine(FAR.platform, "3.12", "cuda"))


def test_an_index_out_of_reach(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that can't be reached is said at once, without its address."""
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(MeasurementError, match="index can't be reached"):
        filled(folder, need(1, "mlx==0.32.0"))
    monkeypatch.setenv("PIP_RETRIES", "0")
    for name in ("PIP_FIND_LINKS", "PIP_CONFIG_FILE"):
        monkeypatch.setenv(name, "/dev/null" if name == "PIP_CONFIG_FILE" else "")
    with pytest.raises((MeasurementError, EnvironmentFailure)) as error:
        fill.download(folder, "mlx==0.32.0", FAR)
    assert "127.0.0.1" not in error.value.message


# The real thing


@pytest.mark.network
@pytest.mark.skipif(sys.platform != "linux", reason="its wheels are for Linux")
def test_mlx_from_a_wheelhouse(tmp_path: Path, make_track: MakeTrack) -> None:
    """A folder filled from the index with MLX for this machine measures MLX without it, and nothing else's."""
    pytest.importorskip("mlx_lm", reason="what mlx-lm needs is inherited from this Python")
    wanted = RequirementSet(("mlx[cpu]==0.32.4", "mlx-lm==0.32.2"), "")
    machine = Machine("manylinux_2_35_x86_64", HERE, "cpu")
    folder = tmp_path / "wheels"
    try:
        done = fill.fill(
            folder, machine, [Need("a" * 40, "mlx", wanted)], "toy", ["*"], False, lambda *_: None
        )
    except (MeasurementError, Interrupted) as error:
        pytest.skip(f"there is no index: {error}")
    assert {item.name for item in done.manifest.wheels} == {
        "mlx",
        "mlx-cpu",
        "mlx-lm",
        "asv-runner",
        "psutil",
        "nvidia-ml-py",
    }
    settings = {"overlay": [], "modules": ["mlx.core", "mlx_lm"], "wheelhouse": str(folder), "inherit": True}
    made = environments.assemble(make_track(settings), ["mlx==0.32.4", "mlx-lm==0.32.2"], None)
    assert {"transformers", "numpy"} <= set(made.record.inherited)
    worker = scheduler.LocalWorker(made, {})
    try:
        assert scheduler.open_launch(worker, made).modules == {"mlx.core": "0.32.4", "mlx_lm": "0.32.2"}
    finally:
        worker.close()
