"""asv-tachyon's interface over the data of a track, with a policy that lets it run nothing but its own script."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from asv_tachyon.cli import cmd_install

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'"
)
"""No script but its own, nothing from elsewhere; its style sheet holds some fonts itself."""
STYLE_FILE = "assets/velocity.css"
STYLE = """.velocity-back { padding: 0.35rem 1rem; font: 14px/1.4 system-ui, sans-serif; }
.velocity-back a { color: inherit; margin-right: 1rem; }
@media print { .velocity-back { display: none; } }
"""
SCRIPT_FILE = "assets/velocity.js"
SCRIPT = """// From a benchmark that asv-tachyon shows to its cases among our own pages.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const link = document.getElementById("velocity-cases");
  const point = () => {
    const bench = new URLSearchParams(location.hash.slice(1)).get("bench") || "";
    link.href = `${link.dataset.cases}${bench ? `#${new URLSearchParams({ text: bench })}` : ""}`;
  };
  // The interface changes the address without saying so: what counts is where it stands when somebody follows.
  for (const event of ["pointerdown", "focus", "click"]) link.addEventListener(event, point);
  // A browser does not let its scripts read files: opened from a disk, the page would stay empty without a word.
  if (location.protocol === "file:") {
    link.after("These views need a server: mlx-velocity preview. All other pages work from a disk.");
  }
});
"""
HEAD, BODY = "<head>", "<body>"


def install(html: Path, front: str) -> None:
    """Put the interface over the data in `html`; `front` is the address of the track's first page from there.

    asv-tachyon shows texts as text. The policy is the second lock, should one of its versions forget it.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        cmd_install(html, backup=False)
    page = html / "index.html"
    text = page.read_text("utf-8")
    if HEAD not in text or BODY not in text:
        raise ValueError("asv-tachyon's page is not what this version of mlx-velocity knows")
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    style = f'<link rel="stylesheet" href="./{STYLE_FILE}"><script src="./{SCRIPT_FILE}"></script>'
    cases = "../cases/index.html"
    back = (
        f'<nav class="velocity-back" aria-label="mlx-velocity"><a href="{front}">← What changed</a> '
        f'<a id="velocity-cases" data-cases="{cases}" href="{cases}">Cases</a></nav>'
    )
    text = text.replace(HEAD, f"{HEAD}\n    {policy}\n    {style}", 1)
    page.write_text(text.replace(BODY, f"{BODY}\n    {back}", 1), "utf-8")
    (html / STYLE_FILE).write_text(STYLE, "utf-8")
    (html / SCRIPT_FILE).write_text(SCRIPT, "utf-8")
