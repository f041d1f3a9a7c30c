"""The readings file: what is written can be read, by later versions too, and nothing is lost on the way."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from conftest import ENVIRONMENT, STARTED, benchmark, case_of, failed, measured, one_line
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import mlx_velocity
from mlx_velocity import readings, records
from mlx_velocity.errors import InputError

CASE = case_of(benchmark("decode.time_decode", [["'tiny'"], ["32"]]))
LAUNCH = records.Launch("0123456789ab", STARTED, [1], {"toy": "2.0"}, 0.25)
EVERY_KIND = [
    ENVIRONMENT,
    LAUNCH,
    measured(CASE, [0.25, 1e-9], notes={"digest": "é ", "exact": True}, sensors={"load_1m": 0.5}),
    failed(CASE, "timeout"),
    records.Failure("incompatible", "mlx-lm 0.31.3 needs mlx>=0.31.2", started=STARTED),
    records.SetAside("c0ffee.json.corrupt-20260102T030405", "not JSON", STARTED),
]

# Never edit these lines: files like this lie in users' repositories, and every later version must read them.
FORMAT_1 = r"""
{"format":1,"kind":"environment","name":"velocity-py3.11-backendcpu","backend":"cpu","python":"3.11","requirements":["mlx-lm==0.31.1","mlx[cpu]==0.31.2"],"packages":{"mlx":"0.31.2","mlx-lm":"0.31.1"}}
{"format":1,"kind":"launch","launch":"79ebf70ebe17","started":"2026-11-21T09:56:10.320Z","affinity":[1],"modules":{"mlx.core":"0.31.2","mlx_lm":"0.31.1"},"startup_s":1.85}
{"format":1,"kind":"measurement","launch":"79ebf70ebe17","benchmark":"prefill.Prefill.time_prefill","version":"1","params":["'tiny-float32'","32"],"unit":"seconds","samples":[0.25,0.5],"warmup":[0.75],"started":"2026-11-21T09:56:11Z","duration_s":1.5,"notes":{"digest":"a1","tokens":32,"exact":true},"sensors":{"load_1m":0.5}}
{"format":1,"kind":"failure","outcome":"failed","reason":"exit -9 (SIGKILL)","benchmark":"lora.Step.time_step","version":"1","params":["'tiny-float32'"],"launch":"79ebf70ebe17","exit_code":-9,"last_lines":["Killed"],"started":"2026-11-21T09:56:12.000Z"}
{"format":1,"kind":"failure","outcome":"incompatible","reason":"mlx-lm 0.31.3 needs mlx>=0.31.2","benchmark":null,"version":null,"params":null,"launch":null,"exit_code":null,"last_lines":[],"started":"2026-11-21T09:56:13.000Z"}
{"format":1,"kind":"set_aside","file":"0d8c442b.json.corrupt-20261121T095614","reason":"not JSON","started":"2026-11-21T09:56:14.000Z"}
"""

words = st.text(st.characters(exclude_categories=["Cs"]))
numbers = st.floats(allow_nan=False, allow_infinity=False)


def full_disk(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("reading", EVERY_KIND, ids=lambda reading: reading.kind)
def test_round_trip(reading: records.Reading) -> None:
    """Every kind of record comes back as it was written, from a single line."""
    line = readings.dump(reading)
    assert "\n" not in line
    assert readings.parse(line) == reading


@given(words, st.lists(numbers, min_size=1), st.dictionaries(words, st.one_of(words, numbers, st.booleans())))
def test_round_trip_of_anything(text: str, samples: list[float], notes: dict[str, Any]) -> None:
    """No text and no finite number is changed by a file, line separators and tiny numbers included."""
    reading = measured(CASE, samples, text, notes=notes)
    assert readings.parse(readings.dump(reading)) == reading


def test_format_1_stays_readable(tmp_path: Path) -> None:
    """A file of format 1 is read, and means what it meant."""
    path = tmp_path / "c0ffee-env.readings.jsonl"
    path.write_text(FORMAT_1, "utf-8")
    stored, bad = readings.read(path)
    assert bad == []
    assert {item.kind for item in stored} == set(records.KINDS)
    environment, launch, measurement, failure, incompatible, aside = stored
    assert isinstance(environment, records.Environment)
    assert environment.packages == {"mlx": "0.31.2", "mlx-lm": "0.31.1"}
    assert isinstance(launch, records.Launch)
    assert launch.modules["mlx_lm"] == "0.31.1"
    assert isinstance(measurement, records.Measurement)
    assert (measurement.samples, measurement.params) == ([0.25, 0.5], ["'tiny-float32'", "32"])
    assert measurement.notes == {"digest": "a1", "tokens": 32, "exact": True}
    assert isinstance(failure, records.Failure)
    assert (failure.exit_code, failure.last_lines) == (-9, ["Killed"])
    assert isinstance(incompatible, records.Failure)
    assert incompatible.benchmark is None
    assert isinstance(aside, records.SetAside)


def test_schema_knows_every_field() -> None:
    """The published schema is a valid one and names exactly the fields of the records."""
    text = (Path(mlx_velocity.__file__).parent / "schemas" / "readings.schema.json").read_text("utf-8")
    schema = json.loads(text)
    Draft202012Validator.check_schema(schema)
    assert set(schema["$defs"]) == set(records.KINDS)
    for kind, cls in records.KINDS.items():
        fields = {item.name for item in dataclasses.fields(cls)} | {"format", "kind"}
        assert set(schema["$defs"][kind]["properties"]) == fields
        assert schema["$defs"][kind]["properties"]["format"] == {"const": records.FORMAT}


GOOD = json.loads(readings.dump(EVERY_KIND[2]))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "Expecting"),
        ("[]", "not an object"),
        ("3", "not an object"),
        ("{}", "unknown kind None"),
        (json.dumps({**GOOD, "kind": "rumour"}), "unknown kind 'rumour'"),
        (json.dumps({**GOOD, "mood": "good"}), "mood"),
        (json.dumps({key: GOOD[key] for key in GOOD if key != "samples"}), "samples"),
        (json.dumps({**GOOD, "samples": []}), "samples"),
        (json.dumps({**GOOD, "samples": ["1"]}), "samples"),
        (json.dumps({**GOOD, "samples": [float("nan")]}), "NaN is no number"),
        (json.dumps({**GOOD, "warmup": [float("-inf")]}), "-Infinity is no number"),
        (json.dumps({**GOOD, "notes": {"deep": []}}), "notes.deep"),
        (json.dumps({**GOOD, "started": "yesterday"}), "started"),
        (json.dumps({**GOOD, "format": 0}), "format"),
        (json.dumps({**GOOD, "format": "1"}), "format"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_unreadable_line(line: str, reason: str, tmp_path: Path) -> None:
    """A line that is not as the schema says is kept apart with its reason; its neighbours survive."""
    path = tmp_path / "c0ffee-env.readings.jsonl"
    good = [readings.dump(item) for item in EVERY_KIND]
    path.write_text("\n".join([good[0], line, *good[1:]]) + "\n", "utf-8")
    stored, [(found, why)] = readings.read(path)
    assert stored == EVERY_KIND
    assert found == line
    assert reason in why
    assert "\n" not in why


def test_torn_file(tmp_path: Path) -> None:
    """A file that ends in the middle of a line, or holds bytes that are no text, loses only that line."""
    path = tmp_path / "c0ffee-env.readings.jsonl"
    lines = [readings.dump(item) for item in EVERY_KIND]
    path.write_bytes(
        f"{lines[0]}\n".encode() + b'{"kind":"\xff\n' + f"\n{lines[1]}\n{lines[2][:40]}".encode()
    )
    stored, bad = readings.read(path)
    assert stored == EVERY_KIND[:2]
    assert len(bad) == 2


def test_no_file(tmp_path: Path) -> None:
    """Where nothing was stored, nothing is read."""
    assert readings.read(tmp_path / "none") == ([], [])


@pytest.mark.parametrize(
    "reading",
    [
        measured(CASE, [float("nan")]),
        measured(CASE, [float("inf")]),
        measured(CASE, []),
        measured(CASE, [1.0], notes={"deep": [1]}),
        failed(CASE, reason=""),
        dataclasses.replace(LAUNCH, started="now"),
    ],
)
def test_refuses_to_write(reading: records.Reading, tmp_path: Path) -> None:
    """What could not be read again is not written."""
    path = tmp_path / "c0ffee-env.readings.jsonl"
    with pytest.raises(ValueError, match=r"."):
        readings.append(path, [EVERY_KIND[0], reading])
    assert not path.exists()


def test_append(tmp_path: Path) -> None:
    """Readings are added behind what is there, in a folder that is made for them."""
    path = tmp_path / "machine" / "c0ffee-env.readings.jsonl"
    readings.append(path, EVERY_KIND[:2])
    readings.append(path, EVERY_KIND[2:])
    assert readings.read(path) == (EVERY_KIND, [])


def test_append_to_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is one line that says what to do, and what was stored stays."""
    path = tmp_path / "machine" / "c0ffee-env.readings.jsonl"
    readings.append(path, EVERY_KIND[:1])
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(InputError) as error:
        readings.append(path, EVERY_KIND[1:])
    text = one_line(error)
    assert "No space left on device" in text
    assert "machine/c0ffee-env.readings.jsonl" in text
    assert str(tmp_path) not in text
    assert path.read_bytes() == before


def test_append_behind_half_a_line(tmp_path: Path) -> None:
    """Behind a line that a killed call left unfinished the next one is whole."""
    path = tmp_path / "c0ffee-env.readings.jsonl"
    readings.append(path, EVERY_KIND[:1])
    with path.open("a") as stream:
        stream.write(readings.dump(EVERY_KIND[1])[:20])
    readings.append(path, EVERY_KIND[2:])
    stored, bad = readings.read(path)
    assert stored == [EVERY_KIND[0], *EVERY_KIND[2:]]
    assert len(bad) == 1


def test_replace(tmp_path: Path) -> None:
    """A file is replaced as a whole, in a folder that is made for it, and nothing else is left there."""
    path = tmp_path / "machine" / "machine.json"
    readings.replace(path, "old")
    readings.replace(path, "né\n")
    assert path.read_bytes() == "né\n".encode()
    assert list(path.parent.iterdir()) == [path]


def test_what_a_killed_program_left_goes(tmp_path: Path) -> None:
    """The half of a file that a killed program left is removed a day later, at the next writing; a younger one may be under way."""
    left, young, another, foreign = (
        tmp_path / f".{name}.new"
        for name in ("a[1].json.123", "a[1].json.124", "b.json.123", "a[1].json.backup")
    )
    for path in (left, young, another, foreign):
        path.write_text("{", "utf-8")
    for path in (left, another, foreign):
        os.utime(path, (0, 0))
    readings.replace(tmp_path / "a[1].json", "{}")
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "a[1].json", young, another, foreign])


def test_replace_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails leaves the old text, and no half-written file beside it."""
    path = tmp_path / "machine.json"
    readings.replace(path, "old")
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(InputError) as error:
        readings.replace(path, "new")
    assert "No space left on device" in one_line(error)
    assert path.read_text("utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_replace_where_no_folder_can_be(tmp_path: Path) -> None:
    """A file in the place of a folder is one line too."""
    (tmp_path / "machine").write_text("in the way", "utf-8")
    for write in (lambda path: readings.replace(path, "x"), lambda path: readings.append(path, EVERY_KIND)):
        with pytest.raises(InputError) as error:
            write(tmp_path / "machine" / "machine.json")
        assert "can't be written" in one_line(error)
