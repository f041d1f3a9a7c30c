"""The command line of the tools that measure what is here: no commits, no history."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mlx_velocity.errors import Interrupted


def add_to(app: typer.Typer, console: Console) -> None:
    """Put the tools into the table of commands."""

    # bench
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
        from mlx_velocity.commands.compare import check_target
        from mlx_velocity.commands.progress import BenchProgress

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

    # profile
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

    # monitor

    # timeline

    # report

    @app.command(
        epilog="Examples:\n\nmlx-velocity report\n\nmlx-velocity report mlx-0.31.2 --since mlx-0.31.1\n\n"
        "mlx-velocity report --machine apple-m4-pro --machine linux-x86-2core --markdown report.md"
    )
    def report(
        commit: Annotated[
            str | None, typer.Argument(help="A commit, tag or branch; by default the newest measured one.")
        ] = None,
        since: Annotated[
            str | None,
            typer.Option(
                "--since", help="What to show changes against; by default what was measured before it."
            ),
        ] = None,
        machine: Annotated[
            list[str] | None,
            typer.Option("--machine", help="A machine with results; several stand side by side."),
        ] = None,
        bench: Annotated[
            str | None, typer.Option("--bench", help="Only cases whose name matches this regular expression.")
        ] = None,
        markdown: Annotated[
            str | None, typer.Option("--markdown", help="Write Markdown to FILE, or - to print it.")
        ] = None,
        json: Annotated[
            str | None, typer.Option("--json", help="Write JSON to FILE, or - to print it.")
        ] = None,
        config: Annotated[
            Path | None, typer.Option("--config", help="asv configuration to use instead of the nearest.")
        ] = None,
        track: Annotated[
            str | None, typer.Option("--track", help="A track by name, such as releases or mlx-lm.")
        ] = None,
        repo: Annotated[
            str | None, typer.Option("--repo", help="Clone or URL to use instead of the track's own.")
        ] = None,
    ) -> None:
        """Report what is stored of a commit: every stage, what changed, what failed, how it was measured."""
        from mlx_velocity import tracks
        from mlx_velocity.commands import report as command
        from mlx_velocity.errors import InputError

        if (markdown, json) == ("-", "-"):
            raise InputError("Markdown and JSON can't both go to the terminal", "write one of them to a file")
        loaded = tracks.load(tracks.find_config(config, track, Path.cwd()), repo)
        options = command.ReportOptions(commit, since, machine or [], bench)
        with console.status("reading what is stored …"):
            done = command.report(loaded, options)
        command.show(done, markdown, json, console)

    # validate

    @app.command(
        epilog="Examples:\n\nmlx-velocity validate\n\nmlx-velocity validate results/releases/linux-x86-2core\n\n"
        "mlx-velocity validate --json problems.json || cat problems.json"
    )
    def validate(
        paths: Annotated[
            list[Path] | None,
            typer.Argument(
                metavar="PATH", help="Files and folders; by default all that the track has stored."
            ),
        ] = None,
        notes: Annotated[
            bool, typer.Option("--notes", help="Show too what is worth knowing and breaks nothing.")
        ] = False,
        json: Annotated[
            str | None, typer.Option("--json", help="Write what was found to FILE, or - to print it.")
        ] = None,
        config: Annotated[
            Path | None, typer.Option("--config", help="asv configuration to use instead of the nearest.")
        ] = None,
        track: Annotated[
            str | None, typer.Option("--track", help="A track by name, such as releases or mlx-lm.")
        ] = None,
        quiet: Annotated[
            bool, typer.Option("--quiet", "-q", help="Say nothing where nothing is wrong.")
        ] = False,
    ) -> None:
        """Check stored files against their formats and against each other; exit 2 where something is wrong."""
        from mlx_velocity.commands import validate as command

        with console.status("reading what is stored …"):
            checked = command.validate(paths or [], config, track)
        command.show(checked, json, quiet, notes, console)
        raise typer.Exit(checked.exit_code)
