"""The command line: a table of contents over the commands."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import mlx_velocity
from mlx_velocity import cli_tools, tracks, units
from mlx_velocity.errors import InputError, Interrupted
from mlx_velocity.tracks import Track

app = typer.Typer(
    name="mlx-velocity",
    help="Performance history for MLX: prefill, decode, LoRA steps and memory across commits.",
    epilog="Exit codes: 0 fine, 1 a regression, 2 wrong input, 3 undecided or not fit to measure, 4 something failed, 130 interrupted. "
    "Add --debug to see where an error came from.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

PIPE_WIDTH = 160

Config = Annotated[
    Path | None, typer.Option("--config", help="asv configuration to use instead of the nearest.")
]
TrackName = Annotated[
    str | None, typer.Option("--track", help="A track by name, such as releases or mlx-lm.")
]
Repo = Annotated[str | None, typer.Option("--repo", help="Clone or URL to use instead of the track's own.")]
Backend = Annotated[str | None, typer.Option("--backend", help="cpu, metal or cuda instead of what is here.")]
Machine = Annotated[
    str | None, typer.Option("--machine", help="Name of the machine whose results are meant.")
]
Bench = Annotated[
    str | None, typer.Option("--bench", help="Only cases whose name matches this regular expression.")
]
Wheelhouse = Annotated[
    Path | None,
    typer.Option("--wheelhouse", help="Make environments from the wheels in this folder, without an index."),
]
Inherit = Annotated[
    bool,
    typer.Option("--inherit", help="Take from the Python that runs this what would else be installed."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]

# A pipe has no width: a sentence stays on its line there.
console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH)


def _track(
    config: Path | None,
    name: str | None,
    repo: str | None = None,
    backend: str | None = None,
    wheelhouse: Path | None = None,
    inherit: bool = False,
) -> Track:
    return tracks.load(tracks.find_config(config, name, Path.cwd()), repo, backend, wheelhouse, inherit)


def _version(wanted: bool) -> None:
    if wanted:
        console.print(f"mlx-velocity {mlx_velocity.__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


@app.command(epilog="Examples:\n\nmlx-velocity run\n\nmlx-velocity run mlx-0.31.1..main\n\n"
             "mlx-velocity run mlx-lm-0.31.1 --bench decode\n\ngit rev-list -n 5 main | mlx-velocity run HASHFILE:-\n\n"
             "mlx-velocity run --wheelhouse wheels --inherit")  # fmt: skip
def run(
    range_: Annotated[
        str,
        typer.Argument(
            metavar="RANGE", help="NEW, ALL, EXISTING, A..B, a tag, a branch, a hash, or HASHFILE:FILE."
        ),
    ] = "NEW",
    profile: Annotated[
        str | None,
        typer.Option(help="tiny, small, standard, large or all; by default what suits the backend."),
    ] = None,
    bench: Bench = None,
    launches: Annotated[
        int | None,
        typer.Option(min=1, max=100, help="Processes per case instead of the benchmark's own number."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Only so many commits, evenly spread over the range.")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Measure again what failed before.")
    ] = False,
    list_only: Annotated[bool, typer.Option("--list", help="List the cases and measure nothing.")] = False,
    machine: Machine = None,
    backend: Backend = None,
    wheelhouse: Wheelhouse = None,
    inherit: Inherit = False,
    config: Config = None,
    track: TrackName = None,
    repo: Repo = None,
    control: Annotated[
        bool, typer.Option("--control/--no-control", help="Measure a fixed probe beside the cases.")
    ] = True,
    quiet: Quiet = False,
) -> None:
    """Measure the commits of a range that lack results, newest first. What is stored is not measured again."""
    from mlx_velocity.commands.run import RunOptions
    from mlx_velocity.commands.run import run as run_command

    options = RunOptions(
        range_, profile, bench, machine, launches, steps, retry_failed, list_only, quiet, control
    )
    run_command(_track(config, track, repo, backend, wheelhouse, inherit), options, console)


@app.command(
    epilog="Examples:\n\nmlx-velocity show main\n\nmlx-velocity show mlx-0.31.1 mlx-0.31.2 --bench decode"
)
def show(
    base: Annotated[str, typer.Argument(help="A commit, tag or branch.")] = "main",
    head: Annotated[str | None, typer.Argument(help="A second one, to see what changed.")] = None,
    bench: Bench = None,
    machine: Machine = None,
    backend: Backend = None,
    config: Config = None,
    track: TrackName = None,
    repo: Repo = None,
) -> None:
    """Show the stored results of a commit, or what changed between two; measures nothing."""
    from mlx_velocity.commands.show import show as show_command

    show_command(_track(config, track, repo, backend), base, head, machine, bench, console)


@app.command(
    epilog="Examples:\n\nmlx-velocity compare mlx==0.32.3 mlx==0.32.4 --bench decode\n\n"
    "mlx-velocity compare main my-branch --track mlx-lm --repo ~/mlx-lm\n\n"
    "mlx-velocity compare --merge-base origin/main HEAD --markdown comment.md\n\n"
    "cd ~/mlx-lm; mlx-velocity compare"
)
def compare(
    base: Annotated[
        str | None,
        typer.Argument(
            help="A commit, tag, branch, '.' for the working tree, or versions such as mlx==0.32.3."
        ),
    ] = None,
    head: Annotated[
        str | None, typer.Argument(help="Likewise; by default the working tree, or the newest commit.")
    ] = None,
    merge_base: Annotated[
        bool, typer.Option("--merge-base", help="Take the base from where HEAD left the branch BASE.")
    ] = False,
    profile: Annotated[
        str | None,
        typer.Option(help="tiny, small, standard, large or all; by default what suits the backend."),
    ] = None,
    bench: Bench = None,
    threshold: Annotated[
        float, typer.Option(min=0.01, max=100, help="Per cent within which a case counts as unchanged.")
    ] = 2.0,
    max_samples: Annotated[
        int | None,
        typer.Option(
            min=2, help="Samples a side and case at most, 2 a pair of launches; below 12 no time is decided."
        ),
    ] = None,
    max_time: Annotated[str | None, typer.Option(help="Measure no longer than this: 90s, 10m, 1h.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Compare equal code with itself.")] = False,
    control: Annotated[
        bool, typer.Option("--control/--no-control", help="Measure a fixed probe beside the sides.")
    ] = True,
    from_results: Annotated[
        bool, typer.Option("--from-results", help="Show the newest stored comparison and measure nothing.")
    ] = False,
    markdown: Annotated[
        str | None, typer.Option("--markdown", help="Write a pull-request comment to FILE, or - to print it.")
    ] = None,
    json: Annotated[str | None, typer.Option("--json", help="Write JSON to FILE, or - to print it.")] = None,
    machine: Machine = None,
    backend: Backend = None,
    wheelhouse: Wheelhouse = None,
    inherit: Inherit = False,
    config: Config = None,
    track: TrackName = None,
    repo: Repo = None,
    quiet: Quiet = False,
) -> None:
    """Measure two commits, branches or versions side by side and say what got slower, and how sure that is."""
    from mlx_velocity import interleave, verdict
    from mlx_velocity.commands import compare as command
    from mlx_velocity.commands.targets import check_target

    seconds = units.parse_duration(max_time) if max_time else None
    options = command.CompareOptions(
        base, head, merge_base, profile, bench, machine, verdict.Rule(threshold=threshold / 100),
        interleave.Budget(max_samples, seconds), force, control, quiet or "-" in (markdown, json),
    )  # fmt: skip
    found, clone = tracks.locate(config, track, repo, Path.cwd())
    loaded = tracks.load(found, clone, backend, wheelhouse, inherit)
    if (markdown, json) == ("-", "-"):
        raise InputError("Markdown and JSON can't both go to the terminal", "write one of them to a file")
    for target in (markdown, json):
        check_target(target)
    try:
        done = command.stored(loaded, options) if from_results else command.compare(loaded, options, console)
    except KeyboardInterrupt:
        raise Interrupted("interrupted", "nothing was measured yet; run the same again") from None
    command.show(done, options, markdown, json, console)
    raise typer.Exit(130 if done.interrupted else done.exit_code)


@app.command(
    epilog="Examples:\n\nmlx-velocity doctor\n\nmlx-velocity doctor --json machine.json\n\n"
    "mlx-velocity doctor && mlx-velocity run"
)
def doctor(
    json: Annotated[
        str | None, typer.Option("--json", help="Write all that was seen to FILE, or - to print it.")
    ] = None,
    seconds: Annotated[
        float,
        typer.Option(min=1, max=600, help="How long a fixed loop is repeated, to see whether it is steady."),
    ] = 5.0,
) -> None:
    """Say whether this machine is fit to measure now, and what to do about it; exit 3 where it is not."""
    from mlx_velocity.commands.doctor import doctor as command

    raise typer.Exit(command(json, seconds, console))


@app.command(
    epilog="Examples:\n\nmlx-velocity publish\n\nmlx-velocity publish --track mlx-lm\n\n"
    "mlx-velocity run && mlx-velocity publish --quiet"
)
def publish(config: Config = None, track: TrackName = None, repo: Repo = None, quiet: Quiet = False) -> None:
    """Build the site of all tracks that have results, or of one; only what changed is built again."""
    from mlx_velocity.commands import publish as command

    one = config is not None or track is not None or repo is not None
    chosen = (
        [_track(config, track, repo)] if one else [tracks.load(path) for path in tracks.every(Path.cwd())]
    )
    command.publish(chosen, quiet, console)


@app.command()
def preview(
    port: Annotated[
        int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.", min=0, max=65535)
    ] = 8321,
    config: Config = None,
    track: TrackName = None,
) -> None:
    """Serve the built site to this machine alone, until Ctrl-C."""
    from mlx_velocity.site import preview as site

    with site.server(_track(config, track).html_dir, port) as server:
        console.print(
            f"The site is at http://{site.HOST}:{server.server_port}/ (Ctrl-C ends it)", highlight=False
        )
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            console.print("ended")


@app.command(name="releases")
def releases_command(
    update: Annotated[
        bool, typer.Option("--update", help="Append what the package index has that the list lacks.")
    ] = False,
    index_url: Annotated[str | None, typer.Option(help="Address of the package index to ask.")] = None,
) -> None:
    """List the release history of mlx and mlx-lm."""
    from mlx_velocity.commands.releases import releases

    releases(update, index_url, console)


cli_tools.add_to(app, console)
