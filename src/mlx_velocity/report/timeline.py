"""What a monitor saw, as one page that needs nothing else: three rows over one time axis, and what was under way."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import Any

from mlx_velocity import units
from mlx_velocity.regions import Region
from mlx_velocity.report import timeline_rows
from mlx_velocity.report.timeline_rows import GREEN, MEMORY, ORANGE, Row, Sample, Trace

DAY_S = 86400.0
MIDNIGHT_MS = 946_684_800_000
"""2000-01-01: elapsed time begins there. A number of four digits would be taken for a year."""
ROW_PX, LANE_PX = 160, 20
LANES = ("commit", "model", "case", "region")


def page(
    header: Sample,
    samples: Sequence[Sample],
    under_way: Sequence[Region],
    remarks: Sequence[str],
    title: str,
    script: str,
    plotly: str,
) -> str:
    """The whole page. Times of `under_way` are of the samples' `monotonic_s`; `plotly` and `script` are JavaScript.

    All text is escaped, and the page's own policy forbids every request.
    """
    start_s = float(samples[0]["monotonic_s"]) if samples else 0.0
    figure = build(header, samples, under_way, start_s)
    lines = [f"<li>{html.escape(remark)}</li>" for remark in remarks]
    # In a script, only "<" could end it.
    data = json.dumps(figure, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:">
<link rel="icon" href="data:,">
<title>{html.escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{html.escape(title)}</h1>
<p class="facts">{html.escape(facts(header, samples))}</p>
<ul class="remarks">{"".join(lines)}</ul>
<p class="bar"><label><input type="checkbox" id="regions" checked> regions</label>
<span id="here" role="status"></span></p>
<div id="plot"><div id="lanes"></div></div>
<script>{plotly}</script>
<script type="application/json" id="figure">{data}</script>
<script>{script}</script>
</body>
</html>
"""


STYLE = """
body { margin: 12px 16px; font: 14px/1.4 system-ui, sans-serif; color: #222; background: #fff; }
h1 { font-size: 17px; margin: 0; overflow-wrap: anywhere; }
p, ul { margin: 2px 0; } .facts { color: #555; } .remarks { padding-left: 18px; color: #8a3b00; }
.bar { display: flex; gap: 20px; }
#here { color: #333; font-variant-numeric: tabular-nums; flex: 1; min-width: 0; height: 1.4em;
  overflow: hidden; white-space: nowrap; text-overflow: ellipsis; }
#plot { position: relative; isolation: isolate; }
#lanes { position: absolute; top: 4px; z-index: 5; overflow: hidden; pointer-events: none; font-size: 11px; line-height: 17px; }
#lanes div { position: absolute; height: 17px; box-sizing: border-box; overflow: hidden;
  white-space: nowrap; text-overflow: ellipsis; border-left: 1px solid #555; pointer-events: auto; }
#lanes .named { padding: 0 3px; }
#lanes.under { z-index: -1; }
"""


def facts(header: Sample, samples: Sequence[Sample]) -> str:
    """When, how long, how often, and on what."""
    parts = []
    if header:
        parts.append(units.moment(header["time_s"]))
    if samples:
        lasted = samples[-1]["monotonic_s"] - samples[0]["monotonic_s"]
        parts.append(f"{units.clock(lasted)}, {units.count(len(samples), 'sample')}")
    if header:
        parts.append(f"{units.count(header['cores'], 'core')}, {units.bytes_(header['memory_total_bytes'])}")
        parts += [str(name) for name in dict.fromkeys(header.get("gpus", []))]
    return " · ".join(parts)


def build(
    header: Sample, samples: Sequence[Sample], under_way: Sequence[Region], start_s: float
) -> dict[str, Any]:
    """Traces, layout and regions; times in milliseconds since the first sample. A trace without `x` has them all."""
    interval_s = float(header.get("interval_s", 0.2))
    draw = timeline_rows.Drawing(samples, start_s, interval_s)
    end_s = samples[-1]["monotonic_s"] - start_s if samples else 0.0
    rows = [timeline_rows.memory(header, draw), timeline_rows.cpu(draw), timeline_rows.gpu(draw)]
    heat = timeline_rows.heat(draw)
    rows += [heat] if heat.left or heat.right else []
    lanes = [what for what in LANES if any(region.what == what for region in under_way)]
    tints = timeline_rows.tints(under_way, start_s)
    traces, layout = _placed(rows, tints)
    # Elapsed time reads as a time of day; beyond a day it can't, and dates are shown instead.
    long = end_s > DAY_S
    base = round(1000 * float(samples[0]["time_s"])) if long else MIDNIGHT_MS
    layout["xaxis"] |= {
        "tickformat": "%d %b %H:%M" if long else "%H:%M:%S",
        "hoverformat": "%d %b %H:%M:%S" if long else "%H:%M:%S.%L",
    }
    return {
        "x": [round(1000 * (sample["monotonic_s"] - start_s)) for sample in samples],
        "base": base,
        "start": round(1000 * float(samples[0]["time_s"])) if samples else 0,
        "end": round(1000 * end_s),
        "traces": traces,
        "layout": layout,
        "rowHeight": ROW_PX,
        "rows": len(rows),
        "laneHeight": LANE_PX,
        "lanes": lanes,
        "regions": [
            {
                "lane": lanes.index(region.what), "name": region.name, "start": round(1000 * (region.start_s - start_s)),
                "end": round(1000 * (region.end_s - start_s)),
                "note": "" if region.ended else "its end was not marked: its process was gone, or the watching ended",
            }
            for region in under_way
        ],
    }  # fmt: skip


def _placed(rows: list[Row], tints: list[Trace]) -> tuple[list[Trace], dict[str, Any]]:
    """Traces with their axes and legends, and the layout: one time axis below all rows."""
    between = 0.05
    height = (1 - between * (len(rows) - 1)) / len(rows)
    hidden = {"rangemode": "fixed", "range": [1e9, 1e9 + 1]}
    slider: dict[str, Any] = {
        "visible": True,
        "thickness": 0.05,
        "yaxis": {"rangemode": "fixed", "range": [0, 1]},
    }
    layout: dict[str, Any] = {
        "yaxis": {"domain": [0, 1], "range": [0, 1], "visible": False, "fixedrange": True},
        "legend": {"x": 1.06, "y": -0.02, "yanchor": "top", "font": {"size": 11}, "tracegroupgap": 0},
        "shapes": [], "annotations": [], "hovermode": "x unified", "hoverlabel": {"font": {"size": 11}, "bgcolor": "rgba(255,255,255,0.94)"},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "#999999", "activecolor": "#222222"}, "hoversubplots": "axis", "dragmode": "zoom",
        "plot_bgcolor": "rgba(0,0,0,0)", "paper_bgcolor": "rgba(0,0,0,0)", "font": {"size": 12, "color": "#222222"},
    }  # fmt: skip
    traces = [{**trace, "yaxis": "y", "legend": "legend"} for trace in tints]
    number, last = 1, ""
    for index, row in enumerate(rows):
        if not row.left:
            row = Row(row.name, row.right_unit, row.right)
        top = 1 - index * (height + between)
        number += 1
        left = last = f"y{number}"
        axis = f"yaxis{number}"
        layout[axis] = {
            "domain": [max(0.0, top - height), top], "title": {"text": f"{row.name} ({row.unit})", "font": {"size": 12}},
            "fixedrange": True, "gridcolor": "#e6e6e6", "zeroline": False, "rangemode": "tozero",
            **({"range": [0, row.top]} if row.top else {}),
        }  # fmt: skip
        slider[axis] = {"rangemode": "fixed", "range": [0, row.top]} if index == 0 and row.top else hidden
        legend = f"legend{index + 2}"
        layout[legend] = {"x": 1.06, "y": top, "yanchor": "top", "font": {"size": 11}, "tracegroupgap": 0}
        traces += [{**trace, "yaxis": left, "legend": legend} for trace in row.left]
        if row.right:
            number += 1
            layout[f"yaxis{number}"] = {
                "overlaying": left, "side": "right", "title": {"text": row.right_unit, "font": {"size": 12}},
                "fixedrange": True, "showgrid": False, "zeroline": False, "rangemode": "tozero", "tickmode": "auto", "nticks": 5,
            }  # fmt: skip
            slider[f"yaxis{number}"] = hidden
            traces += [{**trace, "yaxis": f"y{number}", "legend": legend} for trace in row.right]
        if not row.left and not row.right:
            layout["annotations"].append({
                "text": f"no {row.name} was read", "showarrow": False, "font": {"color": "#777777"},
                "xref": "paper", "x": 0.5, "yref": "paper", "y": top - height / 2,
            })  # fmt: skip
        if row.name == MEMORY and row.top:
            layout["shapes"] += [
                _threshold(left, row.top * share, colour) for share, colour in ((0.5, GREEN), (0.25, ORANGE))
            ]
            layout["annotations"] += [
                {"text": f"{share} % of memory", "showarrow": False, "font": {"size": 10, "color": "#555555"}, "xref": "paper",
                 "x": 0, "xanchor": "left", "yref": left, "y": row.top * share / 100, "yanchor": "bottom"}
                for share in (50, 25)
            ]  # fmt: skip
    layout["xaxis"] = {
        "type": "date", "anchor": last, "rangeslider": slider, "showgrid": True, "gridcolor": "#eeeeee",
        "showspikes": True, "spikemode": "across", "spikethickness": 1, "spikecolor": "#888888", "spikedash": "solid",
    }  # fmt: skip
    return traces, layout


def _threshold(axis: str, y: float, colour: str) -> dict[str, Any]:
    return {
        "type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": axis, "y0": y, "y1": y,
        "line": {"color": colour, "width": 1, "dash": "dash"},
    }  # fmt: skip
