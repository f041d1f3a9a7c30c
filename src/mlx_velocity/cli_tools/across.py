"""The options of `across`: the same on MLX and on other frameworks."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from mlx_velocity.errors import InputError


def add_to(app: typer.Typer, console: Console) -> None:
    """Put it into the table of commands."""

    @app.command(
        epilog="Examples:\n\nmlx-velocity across\n\nmlx-velocity across llama-3.2-1b-float32 -p 256 --framework torch\n\n"
        "mlx-velocity across tiny-float32 --bench 'prefill|decode' --markdown -\n\nmlx-velocity across --device cpu --threads 4 --json across.json"
    )
    def across(
        models: Annotated[
            list[str] | None,
            typer.Argument(
                metavar="MODEL",
                help="Shapes with a type, such as tiny-float32 or llama-3.2-1b-4bit; operators take the first one's sizes.",
            ),
        ] = None,
        prompt: Annotated[
            int | None,
            typer.Option(
                "--prompt", "-p", min=2, help="Tokens of the prompt; by default 128 on a CPU, 512 on a GPU."
            ),
        ] = None,
        framework: Annotated[
            list[str] | None,
            typer.Option(
                "--framework",
                help="torch or llama.cpp, beside MLX; may be repeated. By default what is installed.",
            ),
        ] = None,
        device: Annotated[
            str, typer.Option(help="cpu, gpu, or auto: where MLX computes by itself.")
        ] = "auto",
        threads: Annotated[
            int, typer.Option(min=1, help="Threads, and cores to run on, of each framework on a CPU.")
        ] = 1,
        rounds: Annotated[
            int, typer.Option(min=1, max=1000, help="Turns of each framework at each task, in a launch.")
        ] = 7,
        launches: Annotated[
            int, typer.Option(min=1, max=100, help="How often every process is started anew.")
        ] = 2,
        bench: Annotated[
            str | None,
            typer.Option("--bench", help="Only tasks whose kind and name match this regular expression."),
        ] = None,
        markdown: Annotated[
            str | None, typer.Option("--markdown", help="Write Markdown to FILE, or - to print it.")
        ] = None,
        json: Annotated[
            str | None,
            typer.Option("--json", help="Write all samples and checks to FILE as JSON, or - to print them."),
        ] = None,
        quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    ) -> None:
        """Measure the same operators and models on MLX, PyTorch and llama.cpp side by side, and check that it is fair."""
        from mlx_velocity.commands import across as command
        from mlx_velocity.commands.targets import check_target

        if (markdown, json) == ("-", "-"):
            raise InputError("Markdown and JSON can't both go to the terminal", "write one of them to a file")
        for target in (markdown, json):
            check_target(target)
        options = command.AcrossOptions(
            models or (),
            prompt,
            framework or (),
            device,
            threads,
            rounds,
            launches,
            bench,
            quiet or "-" in (markdown, json),
        )
        done = command.across(options, console)
        raise typer.Exit(command.show(done, markdown, json, quiet, console))
