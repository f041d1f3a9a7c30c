"""Which cases there are: asv's benchmarks over their parameters, narrowed by profile and name."""

from __future__ import annotations

import pytest
from asv.benchmarks import Benchmarks
from conftest import MakeTrack, benchmark, one_line

from mlx_velocity import cases
from mlx_velocity.cases import every, expand
from mlx_velocity.errors import InputError
from mlx_velocity.probe import profiles
from mlx_velocity.records import Case

MODELS = ["'tiny-float32'", "'qwen3-4b-4bit'", "'tiny-4bit'"]
DECODE = benchmark("decode.time_decode", [MODELS, ["32", "99"]], param_names=["model", "tokens"])
LORA = benchmark("lora.time_step", [MODELS], param_names=["model"], rounds=5, timeout=None)
OTHER = benchmark("theirs.track_size", [["3", "object()"]], param_names=["size"], unit="bytes", rounds=0)
ALL = [DECODE, LORA, OTHER]


def labels(found: list[Case]) -> list[str]:
    return [case.label for case in found]


def test_case() -> None:
    """A case carries all that is needed to ask for it: name, parameters, index, launches, timeout, unit."""
    (case,) = expand([DECODE], "tiny", "tiny-4bit", 60.0)
    assert case == Case(
        "decode.time_decode",
        ("'tiny-4bit'", "32"),
        4,
        "1",
        "seconds",
        launches=2,
        timeout_s=5.0,
        noise="timing",
    )
    assert case.key == ("decode.time_decode", "1", ("'tiny-4bit'", "32"))
    assert case.label == "decode.time_decode(tiny-4bit, 32)"


def test_defaults() -> None:
    """A benchmark that says nothing is measured in one launch, with the track's timeout and its unit's noise."""
    step, size = expand([LORA], "all", "tiny-4bit", 60.0)[0], expand([OTHER], "all", "3", 60.0)[0]
    assert (step.timeout_s, step.launches, step.noise) == (60.0, 5, "timing")
    assert (size.timeout_s, size.launches, size.noise) == (5.0, 1, "counted")
    said = {**OTHER, "noise": "timing"}
    assert expand([said], "all", None, 60.0)[0].noise == "timing"
    assert labels(expand([benchmark("a.time_a")], "tiny", None, 60.0)) == ["a.time_a"]


def test_profile() -> None:
    """A profile narrows the parameters that it names and no other; the cases of one model stay together."""
    assert labels(expand(ALL, "tiny", None, 60.0)) == [
        "theirs.track_size(3)",
        "theirs.track_size(object())",
        "decode.time_decode(tiny-4bit, 32)",
        "lora.time_step(tiny-4bit)",
        "decode.time_decode(tiny-float32, 32)",
        "lora.time_step(tiny-float32)",
    ]
    assert len(expand(ALL, "all", None, 60.0)) == 6 + 3 + 2


def test_pattern() -> None:
    """A pattern is looked for in the name with its parameters, as a reader sees it."""
    assert labels(expand(ALL, "tiny", r"lora.*float32\)$", 60.0)) == ["lora.time_step(tiny-float32)"]
    assert len(every(ALL, "qwen3", 60.0)) == 3
    assert len(every(ALL, None, 60.0)) == 11
    assert every(ALL, "nothing", 60.0) == []


@pytest.mark.parametrize(
    ("profile", "pattern", "reason"),
    [
        ("huge", None, "there is no profile 'huge'; choose one of tiny, small"),
        ("tiny", "(", "'(' is no regular expression"),
        ("tiny", "nothing", "no benchmark matches 'nothing' in profile tiny"),
        ("small", "lora", "no benchmark matches 'lora' in profile small"),
    ],
)
def test_nothing_to_measure(profile: str, pattern: str | None, reason: str) -> None:
    """A profile, a pattern or a mix of them that leaves nothing is one line that says what to do."""
    with pytest.raises(InputError) as error:
        expand(ALL, profile, pattern, 60.0)
    assert reason in one_line(error)


def test_no_benchmarks_at_all() -> None:
    """A suite without a benchmark is one line that does not talk of a pattern that nobody gave."""
    with pytest.raises(InputError) as error:
        expand([], "tiny", None, 60.0)
    assert "None" not in one_line(error)


def test_broken_pattern_of_every() -> None:
    """A broken pattern is one line wherever it is used."""
    with pytest.raises(InputError) as error:
        every(ALL, "[", 60.0)
    assert one_line(error)


def test_save(make_track: MakeTrack) -> None:
    """The benchmarks are stored as asv reads them, and a file that did not change is left alone."""
    track = make_track()
    cases.save(track, ALL)
    path = track.results_dir / "benchmarks.json"
    assert dict(Benchmarks.load(track.conf)) == {item["name"]: item for item in ALL}
    assert [item.name for item in track.results_dir.iterdir()] == ["benchmarks.json"]
    before = path.stat()
    cases.save(track, ALL)
    assert path.stat() == before
    cases.save(track, [DECODE])
    assert list(Benchmarks.load(track.conf)) == [DECODE["name"]]


@pytest.mark.parametrize("content", [b"{", b"\xff", b""])
def test_save_over_a_broken_file(content: bytes, make_track: MakeTrack) -> None:
    """A stored file that can't be read is replaced."""
    track = make_track()
    track.results_dir.mkdir(parents=True)
    (track.results_dir / "benchmarks.json").write_bytes(content)
    cases.save(track, ALL)
    assert len(Benchmarks.load(track.conf)) == 3


@pytest.mark.parametrize(
    ("there", "instead"),
    [
        ('"timeout": 5.0', '"timeout": NaN'),
        ('"timeout": 5.0', '"timeout": 1e999'),
        ('"params": []', '"params": [' + ", ".join(['["1", "2", "3", "4"]'] * 9) + "]"),
    ],
)
def test_load_of_what_no_suite_describes(there: str, instead: str, make_track: MakeTrack) -> None:
    """A description with a number that is none, or with more cases than fit into memory, is refused in one line."""
    track = make_track()
    cases.save(track, [benchmark("decode.time_decode")])
    path = track.results_dir / "benchmarks.json"
    assert "decode.time_decode" in cases.load(track)
    text = path.read_text("utf-8")
    assert there in text
    path.write_text(text.replace(there, instead), "utf-8")
    with pytest.raises(InputError) as error:
        cases.load(track)
    assert "benchmarks.json" in one_line(error)


def test_profiles_allow_what_the_suite_has() -> None:
    """Every profile is made of known parameters, and the one for CPUs is the smallest."""
    for name in ("model", "tokens", "depth"):
        for profile, values in profiles.PROFILES.items():
            assert set(values.get(name, ())) <= set(profiles.allowed(name)), profile
    assert profiles.FALLBACK in profiles.PROFILES


def test_profile_of_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stock asv selects a profile by an environment variable; an unknown one is refused."""
    monkeypatch.delenv(profiles.VARIABLE, raising=False)
    assert profiles.of_environment() == profiles.FALLBACK
    monkeypatch.setenv(profiles.VARIABLE, "large")
    assert profiles.of_environment() == "large"
    monkeypatch.setenv(profiles.VARIABLE, "huge")
    with pytest.raises(ValueError, match="huge"):
        profiles.of_environment()
