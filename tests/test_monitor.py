"""The monitor: real commands are watched and not disturbed, and the pace is kept by a clock of the test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from conftest import gone
from test_macos_readers import capture

from mlx_velocity import schemas
from mlx_velocity.commands import monitor as command
from mlx_velocity.errors import InputError
from mlx_velocity.monitor import nvidia, processes, recording, sampler, sources
from mlx_velocity.monitor.powermetrics import Powermetrics
from mlx_velocity.probe import energy, sensors

PROGRAM = [sys.executable, "-m", "mlx_velocity", "monitor", "--interval", "0.05"]
PYTHON = [sys.executable, "-c"]


class Watched:
    """What a monitored command left behind."""

    def __init__(self, done: subprocess.CompletedProcess[str], path: Path) -> None:
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr
        self.found = recording.read(path) if path.exists() else recording.Recording()


@pytest.fixture
def watch(tmp_path: Path) -> Callable[..., Watched]:
    """Run a command under the monitor, as a user does."""
    path = tmp_path / "monitor.jsonl"

    def run(*words: str, options: tuple[str, ...] = (), **keys: Any) -> Watched:
        arguments = [*PROGRAM, "-o", str(path), *options, *(["--", *words] if words else [])]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=tmp_path, **keys)
        return Watched(done, path)

    return run


def test_a_command_that_fails(watch: Callable[..., Watched]) -> None:
    """The command's output and exit code are its own; what it held and what it was is in the file."""
    code = "import sys, time; print(input()); print('oops', file=sys.stderr); x = b'x' * 60_000_000; time.sleep(0.4); sys.exit(3)"
    seen = watch(*PYTHON, code, "--debug", input="hello\n")
    assert (seen.code, seen.out) == (3, "hello\n")
    assert seen.err.startswith("oops\n") or "\noops\n" in seen.err
    found = seen.found
    assert (found.header["command"], found.end["exit_code"], found.end["signal"]) == (
        [*PYTHON, code, "--debug"],
        3,
        None,
    )
    assert found.end["samples"] == len(found.samples) > 1
    assert found.unreadable == []
    assert max(sample["tree"]["resident_bytes"] for sample in found.samples if "tree" in sample) > 60_000_000
    times = [sample["monotonic_s"] for sample in found.samples]
    assert times == sorted(times)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_command_that_a_signal_ended(number: signal.Signals, watch: Callable[..., Watched]) -> None:
    """A command that was killed gives a shell's exit code for that, and the signal's name."""
    seen = watch(*PYTHON, f"import os; os.kill(os.getpid(), {int(number)})")
    assert seen.code == 128 + number
    assert (seen.found.end["exit_code"], seen.found.end["signal"]) == (None, number.name)
    assert number.name in seen.err


@pytest.mark.parametrize(
    ("name", "code", "words"), [("no-such-program", 127, "PATH"), (os.devnull, 126, "may run")]
)
def test_a_command_that_cannot_be_started(
    name: str, code: int, words: str, watch: Callable[..., Watched]
) -> None:
    """A command that is missing or no program is named, with a shell's exit code, and leaves no file."""
    seen = watch(name)
    assert seen.code == code
    assert f"'{name}' can't be started" in seen.err
    assert words in seen.err
    assert "Traceback" not in seen.err
    assert seen.found.header == {}


def test_an_orphan_is_named(watch: Callable[..., Watched]) -> None:
    """A process that outlives the command is named, though it left its session and its parents are gone; it lives on."""
    daemon = f"import subprocess; subprocess.Popen([{sys.executable!r}, '-c', 'import time; time.sleep(60)'], start_new_session=True)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {daemon!r}], stdout=2, check=True)"
    seen = watch(
        *PYTHON, f"{code}; import time; time.sleep(0.2)", options=("--quiet",), stdin=subprocess.DEVNULL
    )
    (orphan,) = seen.found.end["orphans"]
    try:
        assert "time.sleep(60)" in orphan["command"]
        assert psutil.Process(orphan["pid"]).is_running()
    finally:
        os.kill(orphan["pid"], signal.SIGKILL)
    assert (seen.code, seen.err) == (0, "")


def test_an_orphan_is_named_in_the_output(watch: Callable[..., Watched]) -> None:
    """What still runs is said on standard error with its number."""
    seen = watch("sh", "-c", "sleep 60 >&- 2>&- & exit 0")
    (orphan,) = seen.found.end["orphans"]
    os.kill(orphan["pid"], signal.SIGKILL)
    assert f"still running after the command: sleep (process {orphan['pid']}: sleep 60)." in seen.err


def test_children_that_end_with_the_command_are_no_orphans(watch: Callable[..., Watched]) -> None:
    """A child that ends a moment after its parent is given that moment."""
    seen = watch("sh", "-c", "sleep 0.2 & exit 0")
    assert seen.found.end["orphans"] == []


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a monitor and go on; what is left at the end is killed."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*words: str, options: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        arguments = [
            *PROGRAM,
            "-o",
            str(tmp_path / "monitor.jsonl"),
            *options,
            *(["--", *words] if words else []),
        ]
        started.append(
            subprocess.Popen(arguments, cwd=tmp_path, start_new_session=True, stderr=subprocess.DEVNULL)
        )
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(path: Path, words: str) -> str:
    """The text of a file, once it holds these words."""
    until = time.monotonic() + 60
    while not (path.exists() and words in path.read_text("utf-8")):
        assert time.monotonic() < until, f"{path.name} never said {words!r}"
        time.sleep(0.02)
    return path.read_text("utf-8")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_signals_are_forwarded(
    number: signal.Signals, running: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """A signal to the monitor reaches the command, which may do with it what it likes."""
    ready = tmp_path / "ready"
    code = (
        "import pathlib, signal, sys, time\n"
        f"signal.signal({int(number)}, lambda *_: sys.exit(7))\n"
        f"pathlib.Path({str(ready)!r}).write_text('ready')\n"
        "time.sleep(60)"
    )
    process = running(*PYTHON, code)
    wait_for(ready, "ready")
    process.send_signal(number)
    assert process.wait(60) == 7
    assert recording.read(tmp_path / "monitor.jsonl").end["exit_code"] == 7


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_watching_without_a_command(
    number: signal.Signals, code: int, running: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """Without a command the machine is watched until Ctrl-C, and the file has an end."""
    process = running()
    wait_for(tmp_path / "monitor.jsonl", '"sample"')
    process.send_signal(number)
    assert process.wait(60) == code
    found = recording.read(tmp_path / "monitor.jsonl")
    assert found.header["command"] is None
    assert found.end["exit_code"] is None
    assert "tree" not in found.samples[-1]


def test_seconds(watch: Callable[..., Watched]) -> None:
    """Watching ends by itself after so many seconds, which are for watching without a command."""
    seen = watch(options=("--seconds", "0.3"))
    assert (seen.code, seen.out) == (0, "")
    assert len(seen.found.samples) > 1
    refused = watch("true", options=("--seconds", "1", "--force"))
    assert refused.code == 2
    assert "--seconds" in refused.err


def test_a_killed_monitor_leaves_a_readable_file(
    running: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """What was sampled until the monitor was killed can be read; the missing end is seen."""
    process = running()
    wait_for(tmp_path / "monitor.jsonl", '"sample"')
    process.kill()
    process.wait()
    found = recording.read(tmp_path / "monitor.jsonl")
    assert (found.samples != [], found.end, found.unreadable) == (True, {}, [])


def test_an_existing_file_is_kept(watch: Callable[..., Watched], tmp_path: Path) -> None:
    """A recording is replaced only when that was asked for, and what can't be written to is refused before the command."""
    (tmp_path / "monitor.jsonl").write_text("precious")
    started = tmp_path / "started"
    arguments = [*PROGRAM, "-o", str(tmp_path / "monitor.jsonl"), "--", "touch", str(started)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert (done.returncode, started.exists()) == (2, False)
    assert "--force" in done.stderr
    assert (tmp_path / "monitor.jsonl").read_text() == "precious"
    assert watch("true", options=("--force",)).code == 0


def test_the_markers_of_a_command_are_in_the_file(watch: Callable[..., Watched]) -> None:
    """What the command and its children mark is kept; a region of a process that was killed ends with it."""
    child = "import os, signal; from mlx_velocity.markers import begin; begin('loaded', 'model'); os.kill(os.getpid(), signal.SIGKILL)"
    code = f"""if True:
        import os, subprocess, sys, time
        from mlx_velocity.markers import VARIABLE, mark
        with mark("decode <b>", "case"):
            subprocess.run([sys.executable, "-c", {child!r}])
            time.sleep(0.3)
        open(os.environ[VARIABLE], "a").write("nonsense\\n" + '{{"format":1,"kind":"note","text":"x","time_s":1,"monotonic_s":1}}\\n')
        time.sleep(0.2)"""
    seen = watch(*PYTHON, code)
    assert seen.code == 0, seen.err
    events = [(item["event"], item["what"], item["name"], "gone" in item) for item in seen.found.markers]
    assert events == [
        ("begin", "case", "decode <b>", False),
        ("begin", "model", "loaded", False),
        ("end", "model", "loaded", True),
        ("end", "case", "decode <b>", False),
    ]
    assert seen.found.end["unreadable_markers"] == 2
    assert "2 markers could not be read" in seen.err


def test_what_is_missing_is_said_once(watch: Callable[..., Watched]) -> None:
    """A machine without a source says so once, and no sample holds a number in its place."""
    seen = watch("sleep", "0.3")
    missing = sources.Sources().missing
    assert seen.found.notes == missing
    assert [seen.err.count(text) for text in missing] == [1] * len(missing)
    if sensors.temperature_c() is None:
        assert any("temperature" in text for text in missing)
        assert all("temperature_c" not in sample for sample in seen.found.samples)


# The file


HEADER = {
    "format": 1, "kind": "header", "time_s": 100.0, "monotonic_s": 5.0, "version": "0.1.0", "platform": "linux",
    "interval_s": 0.2, "budget_share": 0.007, "cores": 2, "memory_total_bytes": 1 << 30, "gpus": [], "sources": ["cpu"],
    "command": ["true"],
}  # fmt: skip
SAMPLE = {"format": 1, "kind": "sample", "time_s": 100.2, "monotonic_s": 5.2, "available_bytes": 7}


def file_of(path: Path, *lines: Any) -> Path:
    path.write_text(
        "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines), "utf-8"
    )
    return path


BAD = [
    "{",
    "[]",
    json.dumps({**SAMPLE, "kind": "else"}),
    json.dumps({**SAMPLE, "available_bytes": -1}),
    json.dumps({**SAMPLE, "cpu_user": 1.5}),
    json.dumps({**SAMPLE, "surprise": 1}),
    json.dumps({**SAMPLE, "monotonic_s": float("nan")}),
    "\udcff",
]


@pytest.mark.parametrize("bad", BAD[:-1])
def test_an_unreadable_line_is_skipped_and_counted(bad: str, tmp_path: Path) -> None:
    """A line that is broken or not of the format is left out with its reason, and the others are read."""
    found = recording.read(file_of(tmp_path / "m.jsonl", HEADER, SAMPLE, bad, SAMPLE))
    assert (found.header, found.samples) == (HEADER, [SAMPLE, SAMPLE])
    ((line, reason),) = found.unreadable
    assert line == bad
    assert reason


@pytest.mark.parametrize("lines", [[], ["{"], ["words"]])
def test_a_file_of_something_else(lines: list[str], tmp_path: Path) -> None:
    """A file in which nothing is a monitor's is refused; so is one that is not there, or of a later format."""
    with pytest.raises(InputError, match="no file of a monitor"):
        recording.read(file_of(tmp_path / "m.jsonl", *lines))
    with pytest.raises(InputError, match="there is no file"):
        recording.read(tmp_path / "nothing.jsonl")
    with pytest.raises(InputError, match="upgrade"):
        recording.read(file_of(tmp_path / "m.jsonl", {**HEADER, "format": 2}))


def test_a_full_disk_ends_the_writing_alone(tmp_path: Path) -> None:
    """A disk that fills up is a problem to tell; the command goes on."""
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    writer = recording.Writer(Path("/dev/full"), replace=True)
    writer.write([SAMPLE])
    writer.write([SAMPLE])
    assert "space" in writer.problem


def test_a_marker_that_comes_in_two_pieces(tmp_path: Path) -> None:
    """A line that is still being written is read when it is whole."""
    file = tmp_path / "markers.jsonl"
    marks = recording.Markers(file)
    assert marks.new() == []
    text = json.dumps(
        {
            "format": 1,
            "kind": "marker",
            "event": "begin",
            "what": "case",
            "name": "a",
            "time_s": 1,
            "monotonic_s": 1,
            "pid": 5,
        }
    )
    file.write_text(text[:30])
    assert marks.new() == []
    file.write_text(f"{text}\n")
    assert [item["name"] for item in marks.new()] == ["a"]
    assert marks.of_the_dead(lambda pid: pid == 5, SAMPLE) == []
    (end,) = marks.of_the_dead(lambda _: False, SAMPLE)
    assert (end["event"], end["gone"], end["monotonic_s"]) == ("end", True, 5.2)
    assert recording.parse(json.dumps(end)) == end
    assert marks.of_the_dead(lambda _: False, SAMPLE) == []


# The pace


class Machine:
    """A clock that goes on when somebody waits or reads, and counts what reading costs."""

    def __init__(self) -> None:
        self.now = 0.0
        self.own = 0.0

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        return False

    def costly(self, name: str, cost_s: float) -> sources.Read:
        def read() -> dict[str, Any]:
            self.own += cost_s
            return {name: 1}

        return read


def paced(
    machine: Machine, reads: dict[str, sources.Read], ticks: int, budget: float = 0.01
) -> list[dict[str, Any]]:
    sampling = sampler.Sampler(reads, 0.2, budget, lambda: machine.now, lambda: (machine.own, 0.0))
    sampling.prime()
    taken: list[dict[str, Any]] = []
    sampler.follow(
        lambda: taken.append(sampling.sample()), 0.2, machine.wait, 0.2 * ticks, lambda: machine.now
    )
    return taken


def test_a_cheap_source_is_read_each_time() -> None:
    """What costs less than its part of the budget is in every sample."""
    machine = Machine()
    taken = paced(machine, {"cheap": machine.costly("cheap", 0.0005)}, 50)
    assert len(taken) == 50
    assert all("cheap" in sample for sample in taken)


def test_a_costly_source_is_read_rarely() -> None:
    """All readings together stay within the budget; the costly source gets what the cheap ones leave."""
    machine = Machine()
    reads = {"cheap": machine.costly("cheap", 0.0005), "costly": machine.costly("costly", 0.015)}
    taken = paced(machine, reads, 1000)
    assert all("cheap" in sample for sample in taken)
    # 0.01 of a core less 0.0025 for the cheap one: 15 ms every two seconds.
    assert sum("costly" in sample for sample in taken) == pytest.approx(100, abs=3)
    assert machine.own / 200 < 0.0102


def test_a_source_that_was_slow_once_is_not_slow() -> None:
    """The first reading, which finds its files, says nothing about the next."""
    machine = Machine()
    costs = iter([0.5, 0.5])

    def read() -> dict[str, Any]:
        machine.own += next(costs, 0.0001)
        return {"x": 1}

    assert all("x" in sample for sample in paced(machine, {"x": read}, 20))


def test_a_source_that_breaks_is_left_out() -> None:
    """A source that raises is read no more, and the reason is kept; the others go on."""
    machine = Machine()

    def broken() -> dict[str, Any]:
        raise OSError("unplugged")

    sampling = sampler.Sampler({"a": broken, "b": machine.costly("b", 0.0)}, 0.2, 0.01, lambda: machine.now)
    assert "b" in sampling.sample()
    assert sampling.broken == {"a": "OSError: unplugged"}
    machine.wait(0.2)
    assert "b" in sampling.sample()


def test_a_machine_that_slept() -> None:
    """Ticks that passed in a sleep are counted and not made up for; the pace stays."""
    machine, taken = Machine(), []

    def take() -> None:
        taken.append(machine.now)
        if len(taken) == 3:
            machine.now += 60.1

    missed = sampler.follow(take, 0.2, machine.wait, 61.5, lambda: machine.now)
    assert missed == 300
    assert taken[2:5] == [pytest.approx(0.4), pytest.approx(60.6), pytest.approx(60.8)]


# Sources


def test_sources_of_this_machine() -> None:
    """What is read here is of the format, and the shares of the processor add up."""
    found = sources.Sources()
    reads = {**found.reads}
    sampling = sampler.Sampler(reads, 0.2, 1.0)
    sampling.prime()
    time.sleep(0.1)
    sample = sampling.sample()
    found.close()
    assert recording.parse(json.dumps(sample)) == sample
    assert 0 < sample["available_bytes"] <= psutil.virtual_memory().total
    assert sample["cpu_user"] + sample["cpu_system"] + sample["cpu_idle"] == pytest.approx(1, abs=0.01)


def test_sources_of_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    """On macOS its own programs are asked, and what they say is of the format; without rights power is missing, with how to grant it."""
    monkeypatch.setattr(Powermetrics, "start", lambda _: False)
    monkeypatch.setattr(energy, "read", lambda: None)
    texts = {"vm_stat": "vm_stat", "sysctl": "sysctl-warn", "ioreg": "ioreg-m2"}
    found = sources.Sources("darwin", lambda words: capture(texts[words[0]]))
    assert found.gpu_names == ["Apple M2 Max"]
    assert [text for text in found.missing if "power" in text] == [f"no power: {sources.HOW_TO_POWER}"]
    sampling = sampler.Sampler(found.reads, 0.2, 1.0)
    sampling.prime()
    sample = sampling.sample()
    assert recording.parse(json.dumps(sample)) == sample
    assert (sample["memory_pressure_level"], sample["swap_used_bytes"]) == (2, 1_156_841_472)
    assert sample["gpus"] == [
        {
            "device_share": 0.37,
            "renderer_share": 0.31,
            "tiler_share": 0.07,
            "memory_used_bytes": 1_202_913_280,
        }
    ]
    assert sample["compressed_bytes"] == 45678 * 16384


def test_a_mac_without_its_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that say nothing leave nothing in a sample."""
    monkeypatch.setattr(Powermetrics, "start", lambda _: False)
    sampling = sampler.Sampler(sources.Sources("darwin", lambda _: "").reads, 0.2, 1.0)
    assert not {"gpus", "memory_pressure_level", "compressed_bytes"} & set(sampling.sample())


def test_powermetrics_as_a_stream(tmp_path: Path) -> None:
    """Each block is told once, as it comes; the process ends when it is told to."""
    text = tmp_path / "block"
    text.write_text(capture("powermetrics"))
    stream = Powermetrics(["sh", "-c", f"cat {text}; cat {text}; exec sleep 60"])
    assert stream.start()
    until = time.monotonic() + 30
    while not (found := stream.read()):
        assert time.monotonic() < until
    assert found["power_w"]["total"] == 0.849
    assert stream._process is not None
    stream.stop()
    assert gone(stream._process.pid)


@pytest.mark.parametrize(
    "words",
    [["sh", "-c", "echo powermetrics must be invoked as the superuser >&2; exit 1"], ["/no/such/program"]],
)
def test_powermetrics_without_rights(words: list[str]) -> None:
    """A program that refuses is not read."""
    stream = Powermetrics(words)
    assert not stream.start()
    stream.stop()


class Nvml:
    """NVIDIA's library with two GPUs, of which the second tells little."""

    class NVMLError(Exception):
        """What the library raises."""

    NVML_TEMPERATURE_GPU = 0

    def __init__(self, working: bool = True) -> None:
        self.working = working

    def nvmlInit(self) -> None:
        if not self.working:
            raise self.NVMLError("Driver/library version mismatch")

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetHandleByUUID(self, name: str) -> str:
        return name

    def nvmlDeviceGetName(self, handle: int) -> str:
        return f"GPU {handle}"

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        if handle == 1:
            raise self.NVMLError("Not Supported")
        return SimpleNamespace(gpu=93, memory=40)

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return SimpleNamespace(used=5 << 30, total=80 << 30)

    def nvmlDeviceGetTemperature(self, handle: int, place: int) -> int:
        return 61

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        return 412_500

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Any) -> int:
        if handle == "GPU-without":
            raise self.NVMLError("Not Supported")
        return 7_500


def test_nvidia(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each GPU tells what it can, in our units; what it does not tell is absent."""
    monkeypatch.setitem(sys.modules, "pynvml", Nvml())
    handles, problem = nvidia.open_all()
    assert (nvidia.names(handles), problem) == (["GPU 0", "GPU 1"], "")
    first, second = nvidia.read(handles)["gpus"]
    assert first == {
        "device_share": 0.93, "memory_busy_share": 0.4, "memory_used_bytes": 5 << 30, "memory_total_bytes": 80 << 30,
        "temperature_c": 61.0, "power_w": 412.5,
    }  # fmt: skip
    assert set(first) - set(second) == {"device_share", "memory_busy_share"}
    recording.parse(json.dumps({**SAMPLE, "gpus": [first, second]}))


@pytest.mark.parametrize(("there", "words"), [(True, "version mismatch"), (False, "")])
def test_an_nvidia_driver_that_fails(there: bool, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that can't be asked is a reason; a machine without one is not."""
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(working=False))
    monkeypatch.setattr(nvidia.os.path, "exists", lambda _: there)
    handles, problem = nvidia.open_all()
    assert handles == []
    assert words in problem
    assert bool(problem) is there


# Joules


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, Any], None]]:
    """Install a library that counts joules; none at first."""
    for name in ("pynvml", "zeus_apple_silicon"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def install(name: str, library: Any) -> None:
        monkeypatch.setitem(sys.modules, name, library)
        energy._counter.cache_clear()

    energy._counter.cache_clear()
    yield install
    energy._counter.cache_clear()


def test_nobody_counts(counting: Callable[[str, Any], None]) -> None:
    """Without a library, or with one that finds no counter, joules are absent from a look."""
    assert energy.read() is None
    counting("pynvml", Nvml(working=False))
    assert energy.read() is None
    looks = sensors.read(), sensors.read()
    assert "energy_j" not in sensors.between(*looks)


def test_nvidia_counts(counting: Callable[[str, Any], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """NVML's millijoules are joules, of the GPU that this process may use; one without a counter has none."""
    counting("pynvml", Nvml())
    before = sensors.read()
    assert before["energy_j"] == 7.5
    assert (
        sensors.between(before, {**before, "energy_j": 9.75, "monotonic_s": before["monotonic_s"] + 1})[
            "energy_j"
        ]
        == 2.25
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-without,1")
    counting("pynvml", Nvml())
    assert energy.read() is None


def test_apple_silicon_counts(counting: Callable[[str, Any], None]) -> None:
    """The parts of Apple's chip are added up, those that it does not tell left out."""
    parts = SimpleNamespace(cpu_total_mj=1000, gpu_mj=2500, gpu_sram_mj=None, dram_mj=400, ane_mj=0)
    monitor = SimpleNamespace(get_cumulative_energy=lambda: parts)
    counting("zeus_apple_silicon", SimpleNamespace(AppleEnergyMonitor=lambda: monitor))
    assert energy.read() == 3.9
    nothing = SimpleNamespace(get_cumulative_energy=lambda: SimpleNamespace())
    counting("zeus_apple_silicon", SimpleNamespace(AppleEnergyMonitor=lambda: nothing))
    assert energy.read() is None


def test_watts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Power is joules over time between two looks, and absent at the first."""
    joules, clock = iter([100.0, 130.0, 1.0]), iter([10.0, 11.5, 12.0])
    monkeypatch.setattr(energy, "read", lambda: next(joules))
    monkeypatch.setattr(sources.time, "monotonic", lambda: next(clock))
    watts = sources.Watts()
    assert [watts(), watts(), watts()] == [{}, {"power_w": {"total": 20.0}}, {}]


# Processes


def test_top() -> None:
    """The few that compute most and hold most are named, each once."""
    rows = [{"pid": pid, "name": "x", "resident_bytes": pid, "cores": -pid / 10} for pid in range(1, 9)]
    assert [row["pid"] for row in processes.top(rows)] == [1, 2, 3, 8, 7, 6]


def test_a_stranger_is_not_watched(tmp_path: Path) -> None:
    """The tree holds what the command started, and nobody else."""
    tree = processes.Tree(str(tmp_path / "markers"))
    tree.look()
    with subprocess.Popen(["sleep", "60"]) as ours, subprocess.Popen(["sleep", "60"]) as stranger:
        try:
            tree.begin(ours.pid)
            read = tree.read()["tree"]
            assert [row["pid"] for row in read["top"]] == [ours.pid]
            assert read["processes"] == 1
        finally:
            ours.kill()
            stranger.kill()
    assert tree.read() == {}


def test_refusals(tmp_path: Path) -> None:
    """A place that can't be written to is said before anything is started."""
    (tmp_path / "file").write_text("")
    options = command.MonitorOptions(["true"], tmp_path / "file" / "m.jsonl", 0.2, None, 0.01, False, True)
    with pytest.raises(InputError, match="can't be written"):
        command.monitor(options)


def test_every_kind_has_a_schema() -> None:
    """A monitor's file has a schema with a version, whose kinds are those that are read."""
    assert set(schemas.by_kind(recording.SCHEMA)) == {"header", "sample", "marker", "note", "end"}
