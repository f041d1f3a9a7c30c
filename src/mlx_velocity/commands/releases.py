"""`mlx-velocity releases`: the release history of mlx and mlx-lm."""

from __future__ import annotations

from functools import partial

from rich.console import Console
from rich.markup import escape

from mlx_velocity import releases as release_list
from mlx_velocity.report import text


def releases(update: bool, index_url: str | None, console: Console) -> None:
    """Print the history, after appending what the index has where `update` is asked for."""
    if update:
        found = release_list.update(fetch=partial(release_list.fetch_releases, index_url=index_url))
        for release in found.added:
            console.print(f"added {release.package} {release.version} ({release.date[:10]})", highlight=False)
        for release in found.yanked_since:
            console.print(
                f"[yellow]yanked since it was listed[/]: {release.package} {release.version}", highlight=False
            )
        for release in found.gone:
            console.print(
                f"[yellow]no longer on the index[/]: {release.package} {release.version}", highlight=False
            )
        if not found.added:
            console.print("The index has no release that the list lacks.")
        return
    listed = release_list.load()
    steps = release_list.steps(listed)
    table = text.table(("date", "left"), ("release", "left"), ("mlx", "left"), ("mlx-lm", "left"))
    for step in steps:
        table.add_row(step.date[:10], escape(step.subject), step.pins["mlx"], step.pins["mlx-lm"])
    console.print(table)
    yanked = [f"{item.package} {item.version}" for item in listed if item.yanked is not None]
    console.print(
        f"{len(steps)} commits. Left out as yanked: {', '.join(yanked) or 'none'}.", highlight=False
    )
