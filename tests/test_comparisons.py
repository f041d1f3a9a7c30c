"""The comparison file: what is written can be read, by later versions too, and names harm nothing."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from conftest import ENVIRONMENT, STARTED, one_line
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import mlx_velocity
from mlx_velocity import comparison, comparisons
from mlx_velocity.comparison import Break, End, Header, PairReading, Side
from mlx_velocity.errors import InputError
from mlx_velocity.records import Environment

BASE = Side("main", "c0ffee" * 6 + "c0ff", "Fix the cache", ENVIRONMENT, {"mlx.core": "0.31.1"})
HEAD = Side(".", "", "working tree", ENVIRONMENT)
HEADER = Header("mlx-lm", "m4", "cpu", "tiny", STARTED, 0.02, 0.01, 7, BASE, HEAD)
PAIR = PairReading(
    1, "decode.Decode.time_decode", "1", ["'tiny'", "32"], "seconds", "BAAB", [[0.25, 1e-9], [0.5]], [[0.25], [1]],
    STARTED, 2.5, "another program", {"copy": 0.01}, {"head": {"digest": "é ", "exact": True}}, {"load_1m": 0.5},
)  # fmt: skip
BYTES = dataclasses.replace(PAIR, unit="bytes", base=[[0]], head=[[12]])
BREAK = Break("head", "lora.Step.time_step", "1", [], "failed", "exit -9 (SIGKILL)", ["Killed"])
END = End(299.5, False)
RECORDS: list[comparisons.Record] = [HEADER, PAIR, BYTES, BREAK, END]

# Never edit these lines: files like this lie in users' repositories, and every later version must read them.
FORMAT_1 = r"""
{"format":1,"kind":"comparison","track":"mlx-lm","machine":"apple-m4-max","backend":"metal","profile":"small","started":"2026-11-21T09:56:10.320Z","threshold":0.02,"error_rate":0.01,"seed":7,"base":{"name":"origin/main","commit":"79ebf70ebe1779ebf70ebe1779ebf70ebe1779eb","subject":"Fix the cache","environment":{"name":"velocity-py3.12-metal","backend":"metal","python":"3.12","requirements":["mlx==0.31.2"],"packages":{"mlx":"0.31.2"}},"modules":{"mlx.core":"0.31.2"}},"head":{"name":".","commit":"","subject":"working tree","environment":{"name":"velocity-py3.12-metal","backend":"metal","python":"3.12","requirements":["mlx==0.31.2"],"packages":{"mlx":"0.31.2"}},"modules":{}}}
{"format":1,"kind":"pair","number":1,"benchmark":"decode.Decode.time_decode","version":"1","params":["'tiny'","32"],"unit":"seconds","order":"ABBA","base":[[0.25,0.5],[0.25]],"head":[[0.5],[0.125]],"started":"2026-11-21T09:56:11Z","duration_s":1.5,"disturbed":"","control":{"copy":0.01,"product":0.02},"notes":{"base":{"digest":"a1"},"head":{"digest":"a1"}},"sensors":{"load_1m":0.5}}
{"format":1,"kind":"pair","number":2,"benchmark":"decode.Memory.track_cache_bytes","version":"1","params":[],"unit":"bytes","order":"BAAB","base":[[0]],"head":[[1024]],"started":"2026-11-21T09:56:12Z","duration_s":1.5,"disturbed":"memory was moved to swap","control":{},"notes":{},"sensors":{}}
{"format":1,"kind":"break","side":"head","benchmark":"lora.Step.time_step","version":"1","params":["'tiny'"],"outcome":"timeout","reason":"no answer in 60 s","last_lines":["step 1"]}
"""

words = st.text()
numbers = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
turns = st.lists(st.lists(numbers, min_size=1), min_size=1)


def hostile(**names: str) -> Header:
    sides = {side: dataclasses.replace(getattr(HEADER, side), name=name) for side, name in names.items()}
    return dataclasses.replace(HEADER, **sides)


@pytest.mark.parametrize("record", RECORDS, ids=["comparison", "pair", "bytes", "break", "end"])
def test_round_trip(record: comparisons.Record) -> None:
    """Every kind of record comes back as it was written, from a single line."""
    line = comparisons.dump(record)
    assert "\n" not in line
    assert json.loads(line)["format"] == comparison.FORMAT
    assert json.loads(line)["kind"] == record.kind
    assert comparisons.parse(line) == record


@given(turns, turns, words, st.dictionaries(words, st.one_of(words, numbers, st.booleans(), st.none())))
def test_round_trip_of_anything(
    base: list[list[float]], head: list[list[float]], text: str, notes: dict[str, Any]
) -> None:
    """No text and no number is changed by a line, line separators and tiny numbers included."""
    pair = dataclasses.replace(PAIR, base=base, head=head, disturbed=text, notes={"base": notes})
    assert comparisons.parse(comparisons.dump(pair)) == pair


@pytest.mark.parametrize("name", ["a\udcffb", "\u2028x\x85", "\u202egnp.exe", "\x1b[31mred"])
def test_a_name_that_is_no_text(name: str, tmp_path: Path) -> None:
    """A side's name comes back from the disk even where it is no proper UTF-8."""
    header = hostile(head=name)
    path = comparisons.path_for(tmp_path, header)
    comparisons.append(path, [header])
    assert comparisons.read(path) == comparisons.Stored(header, [], [], None, [])


def test_format_1_stays_readable(tmp_path: Path) -> None:
    """A file of format 1 is read, and means what it meant."""
    path = tmp_path / f"old{comparisons.SUFFIX}"
    path.write_text(FORMAT_1, "utf-8")
    found = comparisons.read(path)
    header, (timed, counted), (broken,) = found.header, found.pairs, found.breaks
    assert (found.bad, found.end) == ([], None)
    assert (header.machine, header.threshold, header.error_rate, header.seed) == (
        "apple-m4-max",
        0.02,
        0.01,
        7,
    )
    assert (header.base.name, header.base.commit[:4], header.head.name) == ("origin/main", "79eb", ".")
    assert isinstance(header.base.environment, Environment)
    assert header.base.environment.packages == {"mlx": "0.31.2"}
    assert (timed.order, timed.base, timed.disturbed) == ("ABBA", [[0.25, 0.5], [0.25]], "")
    assert timed.notes["head"] == {"digest": "a1"}
    assert (counted.base, counted.disturbed) == ([[0]], "memory was moved to swap")
    assert (broken.side, broken.outcome, broken.last_lines) == ("head", "timeout", ["step 1"])


def test_schema_knows_every_field() -> None:
    """The published schema is a valid one and names exactly the fields of the records, nested ones too."""
    schema = json.loads(
        (Path(mlx_velocity.__file__).parent / "schemas" / comparisons.SCHEMA).read_text("utf-8")
    )
    Draft202012Validator.check_schema(schema)
    assert [item["$ref"].rpartition("/")[2] for item in schema["oneOf"]] == list(comparisons.KINDS)
    every: dict[str, Any] = {**comparisons.KINDS, "side": Side, "environment": Environment}
    for name, cls in every.items():
        described = schema["$defs"][name]
        fields = {item.name for item in dataclasses.fields(cls)}
        fields |= {"format", "kind"} if name in comparisons.KINDS else set()
        assert set(described["properties"]) == fields
        # What was inherited is said since 0.2: older files lack it.
        assert set(described["required"]) == fields - {"inherited"}
        assert described["additionalProperties"] is False
    for kind in comparisons.KINDS:
        assert schema["$defs"][kind]["properties"]["format"] == {"const": comparison.FORMAT}


GOOD = json.loads(comparisons.dump(PAIR))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "Expecting"),
        ("[]", "not an object"),
        ("{}", "unknown kind None"),
        (json.dumps({**GOOD, "kind": "side"}), "unknown kind 'side'"),
        (json.dumps({**GOOD, "mood": "good"}), "mood"),
        (json.dumps({key: GOOD[key] for key in GOOD if key != "order"}), "order"),
        (json.dumps({**GOOD, "order": "AABB"}), "order"),
        (json.dumps({**GOOD, "number": 0}), "number"),
        (json.dumps({**GOOD, "base": []}), "base"),
        (json.dumps({**GOOD, "base": [[]]}), "base"),
        (json.dumps({**GOOD, "base": [[0]]}), "base"),
        (json.dumps({**GOOD, "unit": "bytes", "head": [[-1]]}), "head"),
        (json.dumps({**GOOD, "head": [[float("nan")]]}), "NaN is no number"),
        (json.dumps({**GOOD, "head": [[float("inf")]]}), "Infinity is no number"),
        (json.dumps({**GOOD, "duration_s": 2.5}).replace("2.5", "1e999"), "1e999 is no number"),
        (json.dumps({**GOOD, "duration_s": 10**400}), "is no number that can be stored"),
        (json.dumps({**GOOD, "notes": {"left": {}}}), "notes"),
        (json.dumps({**GOOD, "sensors": {"deep": []}}), "sensors.deep"),
        (json.dumps({**GOOD, "format": 0}), "format"),
        ("[" * 100_000, "recursion"),
        (comparisons.dump(PAIR)[:40], "Unterminated"),
    ],
)
def test_unreadable_line(line: str, reason: str, tmp_path: Path) -> None:
    """A line that is not as the schema says is kept apart with its reason; its neighbours survive."""
    path = tmp_path / f"x{comparisons.SUFFIX}"
    lines = [comparisons.dump(item) for item in RECORDS]
    path.write_text("\n".join([*lines[:2], line, *lines[2:]]) + "\n", "utf-8")
    stored = comparisons.read(path)
    ((found, why),) = stored.bad
    assert (stored.header, stored.pairs, stored.breaks) == (HEADER, [PAIR, BYTES], [BREAK])
    assert found == line
    assert reason in why
    assert "\n" not in why


@pytest.mark.parametrize(
    "record",
    [
        dataclasses.replace(PAIR, base=[[float("nan")]]),
        dataclasses.replace(PAIR, base=[[float("inf")]]),
        dataclasses.replace(PAIR, base=[[0.0]]),
        dataclasses.replace(PAIR, sensors={"deep": [1]}),
        dataclasses.replace(BREAK, reason=""),
        dataclasses.replace(HEADER, started="now"),
        dataclasses.replace(HEADER, threshold=0),
    ],
)
def test_refuses_to_write(record: comparisons.Record, tmp_path: Path) -> None:
    """What could not be read again is not written."""
    path = tmp_path / f"x{comparisons.SUFFIX}"
    with pytest.raises(ValueError, match=r"."):
        comparisons.append(path, [HEADER, record])
    assert not path.exists()


def test_newer_format(tmp_path: Path) -> None:
    """A file of a later version is left alone, and the advice is to upgrade."""
    path = tmp_path / f"new{comparisons.SUFFIX}"
    path.write_text(json.dumps({"format": 2, "kind": "comparison", "more": 1}) + "\n", "utf-8")
    with pytest.raises(InputError) as error:
        comparisons.read(path)
    assert "format 2 is newer than 1: upgrade mlx-velocity" in one_line(error)


@pytest.mark.parametrize("text", ["", "\n\n", "{", comparisons.dump(PAIR), f"{{\n{comparisons.dump(PAIR)}"])
def test_no_header(text: str, tmp_path: Path) -> None:
    """A file that does not say what was compared is refused with a reason."""
    path = tmp_path / f"x{comparisons.SUFFIX}"
    path.write_text(text, "utf-8")
    with pytest.raises(InputError) as error:
        comparisons.read(path)
    assert "does not say what was compared" in one_line(error)


def test_no_file(tmp_path: Path) -> None:
    """A missing file, and a folder in its place, are one line each."""
    with pytest.raises(InputError) as error:
        comparisons.read(tmp_path / "none")
    assert "does not exist" in one_line(error)
    with pytest.raises(InputError) as error:
        comparisons.read(tmp_path)
    assert "can't be read" in one_line(error)


def test_a_second_header(tmp_path: Path) -> None:
    """What stands behind another comparison's header is not taken for this one's evidence."""
    path = tmp_path / f"x{comparisons.SUFFIX}"
    comparisons.append(path, [HEADER, PAIR, hostile(head="other"), BYTES])
    stored = comparisons.read(path)
    assert (stored.header, stored.pairs) == (HEADER, [PAIR])
    assert [reason for _, reason in stored.bad] == ["behind a second header"] * 2


def test_append(tmp_path: Path) -> None:
    """Records are added one by one, in a folder that is made for them."""
    path = comparisons.path_for(tmp_path / "m4" / "comparisons", HEADER)
    for record in RECORDS:
        comparisons.append(path, [record])
    assert comparisons.read(path) == comparisons.Stored(HEADER, [PAIR, BYTES], [BREAK], END, [])


def test_append_to_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is one line that says what to do, and what was stored stays."""

    def full_disk(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = comparisons.path_for(tmp_path / "comparisons", HEADER)
    comparisons.append(path, [HEADER])
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(InputError) as error:
        comparisons.append(path, [PAIR])
    assert "No space left on device" in one_line(error)
    assert comparisons.read(path).header == HEADER


def test_path(tmp_path: Path) -> None:
    """A file is named after the time and the sides, and asv does not take it for one of its own."""
    header = hostile(base="mlx==0.31.2", head="feature/x")
    path = comparisons.path_for(tmp_path, header)
    assert path == tmp_path / "20260102T030405Z-mlx-0.31.2-feature-x.comparison.jsonl"
    assert path.suffix != ".json"
    assert comparisons.path_for(tmp_path, HEADER).name == "20260102T030405Z-main-worktree.comparison.jsonl"
    assert comparisons.path_for(tmp_path, HEADER) == comparisons.path_for(tmp_path, HEADER)


@given(words, words)
def test_any_name_gives_a_safe_path(base: str, head: str) -> None:
    """No name leaves the folder, hides the file, or is too long for a disk."""
    folder = Path("/results")
    path = comparisons.path_for(folder, hostile(base=base, head=head))
    assert path.parent == folder
    assert path.name.isascii()
    assert path.name.isprintable()
    assert not set(path.name) & set("/\\:*?\"<>| '$`&;()~")
    assert ".." not in path.name
    assert len(path.name) < 140


@pytest.mark.parametrize("name", ["../..", "/etc/passwd", "..", "", "-rf", "a" * 300, "x\0y", "$(id)", "é"])
def test_hostile_names(name: str, tmp_path: Path) -> None:
    """Names that try to leave the folder are stored in it."""
    header = hostile(base=name or "x", head=name or "x")
    path = comparisons.path_for(tmp_path / "comparisons", header)
    comparisons.append(path, [header])
    assert [item.relative_to(tmp_path).parts[0] for item in tmp_path.rglob("*.jsonl")] == ["comparisons"]
    assert comparisons.read(path).header == header


def test_names_sort_by_time(tmp_path: Path) -> None:
    """The last name is that of the comparison that began last, two of one second included."""
    folder = tmp_path / "comparisons"
    paths = []
    for started in ("2026-01-02T03:04:05Z", "2025-12-31T23:59:59Z", "2026-01-02T03:04:05.900Z"):
        header = dataclasses.replace(HEADER, started=started)
        paths.append(comparisons.path_for(folder, header))
        comparisons.append(paths[-1], [header])
    (folder / "zzz.json").write_text("{}", "utf-8")
    assert len(set(paths)) == 3
    assert max(folder.glob(f"*{comparisons.SUFFIX}")) == paths[2]
