"""The options of `profile`: where the time goes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mlx_velocity.errors import Interrupted


def add_to(app: typer.Typer, console: Console) -> None:
    """Put it into the table of commands."""

    @app.command(
        epilog="Examples:\n\nmlx-velocity profile\n\nmlx-velocity profile llama-3.2-1b-4bit --stage prefill -p 2048\n\n"
        "mlx-velocity profile qwen3-0.6b-bfloat16 -d 4096 --layers --top 10\n\n"
        "mlx-velocity profile --diff mlx==0.32.3 mlx==0.32.4\n\n"
        "mlx-velocity profile --diff main my-branch --track mlx-lm --repo ~/mlx-lm\n\n"
        "mlx-velocity profile --at mlx-0.32.4; mlx-velocity profile --from-results"
    )
    def profile(
        model: Annotated[
            str | None,
            typer.Argument(
                metavar="MODEL",
                help="A shape and a dtype (tiny-float32, llama-3.2-1b-4bit), path:FOLDER or OWNER/NAME.",
            ),
        ] = None,
        stage: Annotated[str, typer.Option(help="prefill, decode or lora.")] = "decode",
        tokens: Annotated[
            int | None,
            typer.Option(
                "-p",
                "--tokens",
                min=1,
                help="Tokens of the prompt, or of the LoRA step; 128 on a CPU, else 512.",
            ),
        ] = None,
        depth: Annotated[
            int, typer.Option("-d", "--depth", min=0, help="Tokens in the cache when a decode begins.")
        ] = 0,
        generate: Annotated[
            int, typer.Option("-n", "--generate", min=1, help="Tokens of a decode; shown is one of them.")
        ] = 8,
        repetitions: Annotated[
            int | None,
            typer.Option(
                "-r", "--repetitions", min=1, help="Of the stage in a launch; 5, or 3 in each turn of --diff."
            ),
        ] = None,
        launches: Annotated[
            int | None, typer.Option(min=1, help="Processes; 1, or 8 pairs of them with --diff.")
        ] = None,
        top: Annotated[
            int | None, typer.Option(min=0, help="Show so many rows of a table at most; 0 for all.")
        ] = None,
        layers: Annotated[
            bool,
            typer.Option("--layers", help="The parts of each layer apart; with --diff, the sums of layers."),
        ] = False,
        diff: Annotated[
            tuple[str, str] | None,
            typer.Option(
                "--diff",
                metavar="A B",
                help="What grew between two commits, tags, branches or versions (mlx==0.32.3).",
            ),
        ] = None,
        at: Annotated[
            str | None,
            typer.Option("--at", help="Profile this commit or version of the track, and store it."),
        ] = None,
        from_results: Annotated[
            bool,
            typer.Option(
                "--from-results",
                help="List what is stored, or show it with --at or --diff; measures nothing.",
            ),
        ] = False,
        python: Annotated[
            Path | None,
            typer.Option(help="Another Python, whose installed mlx is profiled; it needs psutil."),
        ] = None,
        markdown: Annotated[
            str | None, typer.Option(help="Write Markdown to FILE, or - to print it.")
        ] = None,
        json: Annotated[str | None, typer.Option(help="Write JSON to FILE, or - to print it.")] = None,
        machine: Annotated[
            str | None, typer.Option(help="Name of the machine whose results are meant.")
        ] = None,
        backend: Annotated[
            str | None, typer.Option(help="cpu, metal or cuda instead of what is here.")
        ] = None,
        config: Annotated[
            Path | None, typer.Option(help="asv configuration to use instead of the nearest.")
        ] = None,
        track: Annotated[
            str | None, typer.Option(help="A track by name, such as releases or mlx-lm.")
        ] = None,
        repo: Annotated[
            str | None, typer.Option(help="Clone or URL to use instead of the track's own.")
        ] = None,
        quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    ) -> None:
        """Say where the time goes in one prefill, decode or LoRA step, part by part; or what grew between two sides."""
        from mlx_velocity import tracks
        from mlx_velocity.commands import profile as command

        wanted = command.Wanted(
            model, stage, tokens, depth, generate, repetitions, launches, top, layers, diff, at, from_results, python,
            machine, backend, markdown, json, quiet,
        )  # fmt: skip
        command.check(wanted)
        try:
            if not (diff or at or from_results):
                command.show(command.here(wanted, console), wanted, console)
                return
            found, clone = tracks.locate(config, track, repo, Path.cwd())
            loaded = tracks.load(found, clone, backend)
            take = command.stored if from_results else command.diff if diff else command.at
            shown = take(loaded, wanted, console)
        except KeyboardInterrupt:
            raise Interrupted("interrupted", "nothing was stored; run the same again") from None
        if shown is not None:
            command.show(shown, wanted, console)
