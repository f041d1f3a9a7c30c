"""The site's first page: what is measured, on which machines, and where to look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from string import Template

from mlx_velocity import units
from mlx_velocity.site import plain

POLICY = "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'"
STYLE_FILE = "front.css"
STYLE = """:root { color-scheme: light dark; }
body { max-width: 46rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; }
td, th { padding: 0.3rem 1.2rem 0.3rem 0; text-align: left; vertical-align: top; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
pre { padding: 0.6rem 0.8rem; border: 1px solid; border-radius: 4px; overflow-x: auto; }
"""
PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="$policy">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>mlx-velocity</title>
<link rel="stylesheet" href="$style">
</head>
<body>
<main>
<h1>mlx-velocity</h1>
<p>How fast Apple's MLX runs language models, and how much memory they take, from commit to commit: prefill, decode,
LoRA steps and peak memory, measured on each machine by itself.</p>
$limits
$body
</main>
</body>
</html>
""")
CPU_LIMITS = """<p>A series measured on a CPU sees changes in Python, graph building, dispatch, defaults and memory.
It says nothing about GPU kernels.</p>"""
NOTHING = """<p>There are no results yet. On the machine that is to be measured:</p>
<pre>mlx-velocity run --steps 5
mlx-velocity publish</pre>
<p><code>mlx-velocity doctor</code> says whether that machine is fit to measure.</p>"""


@dataclass(frozen=True)
class Listed:
    """A track as the first page lists it."""

    name: str
    address: str
    """Of its page, from the first one."""
    commits: int
    machines: Sequence[str]
    newest: str = ""
    """The newest measured commit: its subject and date."""
    backends: frozenset[str] = field(default=frozenset())


def page(tracks: Sequence[Listed]) -> str:
    """The first page; without tracks it says how to get results."""
    limits = CPU_LIMITS if any("cpu" in track.backends for track in tracks) else ""
    body = _table(tracks) if tracks else NOTHING
    return PAGE.substitute(policy=POLICY, style=STYLE_FILE, limits=limits, body=body)


def _table(tracks: Sequence[Listed]) -> str:
    rows = [
        "<tr><th>track</th><th>measured</th><th>machines</th><th>newest commit</th></tr>",
        *(
            f'<tr><td><a href="{escape(track.address)}">{_shown(track.name)}</a></td>'
            f"<td>{units.count(track.commits, 'commit')}</td>"
            f"<td>{', '.join(map(_shown, track.machines))}</td><td>{_shown(track.newest)}</td></tr>"
            for track in tracks
        ),
    ]
    return '<div class="scroll"><table>\n' + "\n".join(rows) + "\n</table></div>"


def _shown(text: str) -> str:
    return escape(plain.text(text))
