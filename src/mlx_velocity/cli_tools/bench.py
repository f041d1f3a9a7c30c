"""The options of `bench`: the MLX that is installed, in the manner of llama-bench."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def add_to(app: typer.Typer, console: Console) -> None:
    """Put it into the table of commands."""

    @app.command(
        epilog="Examples:\n\nmlx-velocity bench\n\n"
        "mlx-velocity bench llama-3.2-1b --dtype bfloat16,4bit -p 512,2048 -d 0,4096\n\n"
        "mlx-velocity bench path:~/models/Qwen3-4B-4bit --prompts\n\n"
        "mlx-velocity bench qwen3-0.6b-4bit -b 1,4 --stepwise --batched --output bench.json"
    )
    def bench(
        models: Annotated[
            list[str] | None,
            typer.Argument(
                metavar="MODEL",
                help="<shape>-<dtype> with random weights, path:<folder>, or <owner>/<name> on a hub; "
                "by default a shape that suits the backend.",
            ),
        ] = None,
        prompt: Annotated[
            str,
            typer.Option(
                "-p",
                "--n-prompt",
                metavar="N,…",
                help="Tokens of a prompt: 512, 128,512 or 128-4096*2; 0: none.",
            ),
        ] = "512",
        generated: Annotated[
            str, typer.Option("-n", "--n-gen", metavar="N,…", help="Tokens to generate, likewise.")
        ] = "128",
        depths: Annotated[
            str, typer.Option("-d", "--n-depth", metavar="N,…", help="Tokens in the cache before, likewise.")
        ] = "0",
        batches: Annotated[
            str, typer.Option("-b", "--batch-size", metavar="N,…", help="Sequences at once, likewise.")
        ] = "1",
        repetitions: Annotated[
            int, typer.Option("-r", "--repetitions", min=1, max=10_000, help="Samples of each test.")
        ] = 5,
        warmups: Annotated[
            int,
            typer.Option("-w", "--warmup", min=0, max=1000, help="Calls before them, which do not count."),
        ] = 1,
        dtypes: Annotated[
            str,
            typer.Option(
                "--dtype",
                metavar="NAME,…",
                help="Dtypes of a shape's weights: float32, bfloat16, float16, 8bit, 4bit.",
            ),
        ] = "",
        stepwise: Annotated[
            bool,
            typer.Option("--stepwise", help="Also decode with each token read before the next step begins."),
        ] = False,
        batched: Annotated[
            bool,
            typer.Option("--batched", help="Also decode with mlx_lm's batches, of the sizes of -b, or 4."),
        ] = False,
        speculative: Annotated[
            bool,
            typer.Option(
                "--speculative",
                help="Also decode with the model as its own draft, all of whose guesses are right.",
            ),
        ] = False,
        draft: Annotated[
            str, typer.Option("--draft", metavar="MODEL", help="Also decode with this draft model.")
        ] = "",
        prompt_cache: Annotated[
            bool,
            typer.Option(
                "--prompt-cache", help="Also run each prompt behind a cache that has its first 7/8."
            ),
        ] = False,
        prompts: Annotated[
            bool,
            typer.Option(
                "--prompts", help="Real text instead: a short, a medium and a long prompt with an answer."
            ),
        ] = False,
        prompts_file: Annotated[
            Path | None,
            typer.Option(
                "--prompts-file", metavar="FILE", help="Likewise with a file's prompts, --- between two."
            ),
        ] = None,
        form: Annotated[
            str | None, typer.Option("-o", "--format", metavar="FORMAT", help="md, json, jsonl, csv or sql.")
        ] = None,
        output: Annotated[
            Path | None, typer.Option("--output", metavar="FILE", help="Write to FILE, and print the table.")
        ] = None,
        python: Annotated[
            Path | None,
            typer.Option(
                "--python", metavar="PATH", help="Measure the MLX of another Python or virtual environment."
            ),
        ] = None,
        quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    ) -> None:
        """Time the MLX that is installed: tokens per second of prefill and decode, in the manner of llama-bench."""
        from mlx_velocity.commands import bench as command
        from mlx_velocity.commands import bench_trials
        from mlx_velocity.commands.progress import BenchProgress
        from mlx_velocity.commands.targets import check_target

        chosen = command.format_of(form, output)
        check_target(str(output) if output else None)
        texts = {}
        if prompts or prompts_file:
            texts = bench_trials.texts_of(prompts_file) if prompts_file else bench_trials.TEXTS
            trials = bench_trials.of_texts(texts, generated)
        else:
            draft = draft or ("same" if speculative else "")
            trials = bench_trials.trials(
                bench_trials.Wanted(
                    prompt, generated, depths, batches, stepwise, batched, draft, prompt_cache
                )
            )
        split = [dtype.strip() for dtype in dtypes.split(",") if dtype.strip()]
        options = command.BenchOptions(models or [], trials, split, texts, repetitions, warmups, python)
        errors = Console(stderr=True, width=None if sys.stderr.isatty() else console.width)
        run = command.bench(options, BenchProgress(errors, quiet))
        command.show(run, chosen, output, errors, quiet)
        raise typer.Exit(run.exit_code)
