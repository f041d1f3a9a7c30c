"""Pages to files: what did not change since the last publish is taken from there."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from mlx_velocity import units
from mlx_velocity.site import linked, plain
from mlx_velocity.site.record import TrackRecord, case_page, commit_page, graph_view, machine_page
from mlx_velocity.store.reading import usable_cores
from mlx_velocity.store.stamp import stamp

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'"
)
"""Nothing inline, nothing from elsewhere. The data in a page is no script, so it needs no leave."""
KEPT = "pages"
AT_ONCE = 32
"""Pages from which on other processes are worth their start."""
NAV = (
    ("changed", "index.html", "What changed"),
    ("cases", "cases/index.html", "Cases"),
    ("models", "models.html", "Models"),
    ("commits", "commits/index.html", "Commits"),
    ("compare", "compare.html", "Compare"),
    ("machines", "machines.html", "Machines"),
    ("explore", "asv/index.html", "Explore"),
)
"""Key, address below the track's folder, and name of each page that every page links to."""
# What turns the direction of text, or is no text, as JSON escapes it. A backslash that is text is written as two.
_TURNING = re.compile(r"(?<!\\)((?:\\\\)*)\\u(?:00[0189][0-9a-f]|007f|061c|200[ef]|202[89a-e]|206[6-9]|feff)")


Job = tuple[Path, Callable[..., str], tuple[Any, ...]]
"""Where a file goes, the function that makes its text, and what that is given."""


class Writer:
    """Writes the pages of one track. What is many is made in a pool, so close() it."""

    def __init__(
        self, record: TrackRecord, html: Path, before: Path | None, pool: Executor | None = None
    ) -> None:
        self._record, self._html, self._before, self._pool = record, html, before, pool
        self._held: dict[str, list[Any]] = json.loads(record.index.derived([KEPT]).get(KEPT, b"{}"))
        self._new: dict[str, list[Any]] = {}
        self._made = 0
        self._pending: dict[str, Job] = {}
        self._digests: dict[str, str] = {}

    def page(self, path: str, template: str, key: Any, make: Callable[[], dict[str, Any]]) -> None:
        """The page at `path` below the track's folder: a template with what `make` returns.

        `key` is all that the page depends on, as JSON: while it stays the same, the page is not made again. A
        template also has: root (the way to the site's first page), here (to the track's), track, nav, policy.
        """
        if self._taken(path, key):
            return
        up = "../" * path.count("/")
        given = {"root": f"{up}../", "here": up, "track": self._record.track.name, **make()}
        self._later(path, render, template, given)

    def script(self, path: str, name: str, held: Any) -> None:
        """Data that pages load when it is asked for (velocity.load in site.js): fetch() does not read files."""
        self.file(path, held, lambda: f"velocity.take({data(name)}, {data(held)});\n")

    def file(self, path: str, key: Any, make: Callable[[], str]) -> None:
        """Any other file of text, in the same way."""
        if not self._taken(path, key):
            (self._html / path).write_text(make(), "utf-8")
            self._note(path, linked.mark(self._html / path))

    def deferred(self, path: str, key: Any, make: Callable[..., str], *given: Any) -> None:
        """A file of text that another process may make: `make` is a function of a module, and `given` can be sent."""
        if not self._taken(path, key):
            self._later(path, make, *given)

    def _later(self, path: str, make: Callable[..., str], *given: Any) -> None:
        self._pending[path] = (self._html / path, make, given)
        if len(self._pending) >= AT_ONCE * 8:
            self._flush()

    def _taken(self, path: str, key: Any) -> bool:
        """Whether the file was as it should be since the last publish, and is in place again."""
        digest = hashlib.sha256(stamp().encode() + _as_bytes(key)).hexdigest()
        held, target = self._held.get(path), self._html / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if (
            held
            and held[0] == digest
            and self._before
            and linked.taken(self._before / path, target, held[1:])
        ):
            self._new[path] = held
            return True
        self._digests[path] = digest
        return False

    def _note(self, path: str, mark: list[int]) -> None:
        self._made += 1
        self._new[path] = [self._digests.pop(path), *mark]

    def _flush(self) -> None:
        jobs = list(self._pending.values())
        marks: Iterable[list[int]] = map(_made, jobs)
        if self._pool is not None and usable_cores() > 1 and len(jobs) >= AT_ONCE:
            marks = self._pool.map(_made, jobs, chunksize=AT_ONCE // 2)
        for path, mark in zip(self._pending, marks, strict=True):
            self._note(path, mark)
        self._pending.clear()

    def close(self) -> int:
        """Write the rest, and remember what was written; how many files had to be made."""
        self._flush()
        self._record.index.keep_derived({KEPT: json.dumps(self._new).encode()})
        return self._made


@cache
def templates() -> Environment:
    """The templates: all that is put in is escaped, and shown as what it is (plain.py)."""
    made = Environment(
        loader=PackageLoader("mlx_velocity.site"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=_shown,
    )  # fmt: skip
    made.globals.update(
        policy=POLICY, nav=NAV, case_page=case_page, commit_page=commit_page, machine_page=machine_page,
        graph_view=graph_view, units=units,
    )  # fmt: skip
    made.filters.update(link=plain.link, data=data, foldable=foldable)
    return made


def foldable(label: str) -> Markup:
    """A case's name, which may be folded behind each dot and before its parameters."""
    name, bracket, params = plain.text(label).partition("(")
    parts = [escape(part) for part in name.split(".")]
    return Markup(".<wbr>").join(parts) + (Markup("<wbr>(") + params if bracket else "")


def data(held: Any) -> Markup:
    """JSON for a `<script type="application/json">`: no text in it can end that, and none turns the text around it."""
    text = _TURNING.sub(r"\1\\ufffd", json.dumps(held, separators=(",", ":"), allow_nan=False))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _as_bytes(key: Any) -> bytes:
    """A key as JSON; orjson takes a tenth of the time, and no half of a surrogate."""
    try:
        return orjson.dumps(key, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        return json.dumps(key).encode()


def render(template: str, given: dict[str, Any]) -> str:
    """A page's text."""
    return templates().get_template(template).render(given)


def _made(job: Job) -> list[int]:
    target, make, given = job
    target.write_text(make(*given), "utf-8")
    return linked.mark(target)


def _shown(value: Any) -> Any:
    return plain.text(value) if isinstance(value, str) and not isinstance(value, Markup) else value
