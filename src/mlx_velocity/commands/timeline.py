"""`mlx-velocity timeline`: a monitor's file as one page that opens without a network."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from mlx_velocity import readings, regions, units
from mlx_velocity.errors import InputError
from mlx_velocity.monitor import recording
from mlx_velocity.monitor.recording import Recording
from mlx_velocity.regions import Region
from mlx_velocity.report import timeline as view
from mlx_velocity.report.timeline_rows import MOST_POINTS


def timeline(path: Path, output: Path | None, marker_files: list[Path], console: Console) -> None:
    """Write the page. Raises InputError where a file can't be read or written, or holds nothing to show."""
    with console.status(f"reading {escape(path.name)} …"):
        found = recording.read(path)
    if not found.samples:
        raise InputError(f"{path} holds no sample", "record again: mlx-velocity monitor -- COMMAND")
    until_s = found.samples[-1]["monotonic_s"]
    under_way = regions.of_markers(found.markers, until_s)
    remarks = of_recording(path, found)
    if len(found.samples) > MOST_POINTS:
        remarks.append(
            "lines are thinned to the least and the most of each stretch: zoom does not show each sample"
        )
    for file in marker_files:
        others = recording.read(file)
        remarks += unreadable(file, others)
        under_way += from_elsewhere(others, found)
    under_way = sorted(under_way, key=lambda region: (region.start_s, region.end_s))
    script = (files("mlx_velocity") / "report" / "timeline.js").read_text("utf-8")
    from plotly.offline import get_plotlyjs

    written = view.page(
        found.header, found.samples, under_way, remarks, title(path, found), script, get_plotlyjs()
    )
    target = output or path.with_suffix(".html")
    readings.replace(target.resolve(), written)
    for remark in remarks:
        console.print(f"[yellow]{escape(remark)}[/]", highlight=False)
    console.print(
        f"{escape(str(target))}: {units.count(len(found.samples), 'sample')}, {units.count(len(under_way), 'region')}, "
        f"{units.bytes_(len(written))}. It opens in any browser, without a network.",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def title(path: Path, found: Recording) -> str:
    """What the page is called: the command, or the file where there was none."""
    command = found.header.get("command")
    return " ".join(command) if command else path.name


def of_recording(path: Path, found: Recording) -> list[str]:
    """What a reader should know about the file."""
    said = [*found.notes, *unreadable(path, found)]
    if not found.header:
        said.append("the file has no header: how much memory there is is not known")
    if not found.end:
        said.append("the file has no end: the monitor was killed, or is still at work")
        return said
    if found.end["signal"]:
        said.append(f"the command was ended by {found.end['signal']}")
    elif found.end["exit_code"]:
        said.append(f"the command ended with exit code {found.end['exit_code']}")
    for orphan in found.end["orphans"]:
        what = orphan.get("command", orphan["name"])
        said.append(
            f"still running after the command: {orphan['name']} (process {orphan['pid']}: {what[:80]})"
        )
    if found.end["missed"]:
        said.append(f"{units.count(found.end['missed'], 'sample')} were missed: the machine slept or stalled")
    return said


def unreadable(path: Path, found: Recording) -> list[str]:
    """How many lines of a file were left out, and why the first of them was."""
    if not found.unreadable:
        return []
    _, reason = found.unreadable[0]
    return [f"{units.count(len(found.unreadable), 'line')} of {path.name} could not be read: {reason[:120]}"]


def from_elsewhere(others: Recording, found: Recording) -> list[Region]:
    """The regions of another file of markers, by the clock of the wall, on the time axis of these samples."""
    first, last = found.samples[0], found.samples[-1]
    offset = first["time_s"] - first["monotonic_s"]
    moved = [{**marker, "monotonic_s": marker["time_s"] - offset} for marker in others.markers]
    return [
        region
        for region in regions.of_markers(moved, last["monotonic_s"])
        if region.end_s > first["monotonic_s"] and region.start_s < last["monotonic_s"]
    ]
