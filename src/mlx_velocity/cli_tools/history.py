"""The options of `history`, and the verbs beside it that record what is decided about a regression."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from mlx_velocity.errors import InputError

Config = Annotated[
    Path | None, typer.Option("--config", help="asv configuration to use instead of the nearest.")
]
TrackName = Annotated[
    str | None, typer.Option("--track", help="A track by name, such as releases or mlx-lm.")
]
Repo = Annotated[str | None, typer.Option("--repo", help="Clone or URL to use instead of the track's own.")]
Branch = Annotated[
    str | None,
    typer.Option("--branch", help="Branch whose history it is; by default the first of the configuration."),
]
Id = Annotated[str, typer.Argument(metavar="ID", help="As shown by history; its beginning will do.")]


class CaseOrVerb(TyperGroup):
    """A first word that is no verb is a CASE: `history decode` beside `history accept ID`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Where a verb comes first, CASE is empty; else options and CASE may come in any order."""
        if args and args[0] in self.commands:
            return super().parse_args(ctx, ["", *args])
        ctx.allow_interspersed_args = True
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The verb; raises InputError where it is a second CASE."""
        if ctx.params.get("case") or args[0] not in self.commands:
            raise InputError(
                f"history takes one CASE, and '{args[0]}' is another word",
                f"join cases as 'A|B'; a verb ({', '.join(self.commands)}) comes first: mlx-velocity history accept ID",
            )
        # CASE has no place in the usage of a verb.
        self.params = [param for param in self.params if param.name != "case"]
        return super().resolve_command(ctx, args)


def add_to(app: typer.Typer, console: Console) -> None:
    """Put it into the table of commands."""
    group = typer.Typer(
        cls=CaseOrVerb,
        invoke_without_command=True,
        subcommand_metavar="| VERB ID",
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
        help="Say what changed in the stored history, with which commit, by how much, and how sure that is.",
        epilog="Examples:\n\nmlx-velocity history\n\nmlx-velocity history 'decode.*4bit' --since 2026-01-01\n\n"
        "mlx-velocity history --only-regressions --markdown monthly.md --since mlx-0.31.0\n\n"
        'mlx-velocity history accept k3f9x2ab --because "exact sums cost that"\n\n'
        "Exit codes: 1 a confirmed regression is open, 3 one waits to be confirmed, 0 neither.",
    )

    @group.callback()
    def history(
        context: typer.Context,
        case: Annotated[
            str,
            typer.Argument(
                metavar="CASE",
                help="Only cases whose name matches this regular expression; one case is shown in full.",
            ),
        ] = "",
        since: Annotated[
            str | None,
            typer.Option(
                "--since",
                metavar="DATE|COMMIT",
                help="Only changes from this day or month on, or behind this commit or tag.",
            ),
        ] = None,
        machine: Annotated[
            str | None, typer.Option("--machine", help="Only this machine; by default all that have results.")
        ] = None,
        only_regressions: Annotated[
            bool, typer.Option("--only-regressions", help="Leave out what improved or is fixed.")
        ] = False,
        confirm: Annotated[
            bool, typer.Option("--confirm", help="Measure again what stands on too few points, then show it.")
        ] = False,
        record: Annotated[
            bool,
            typer.Option(
                "--record", help="Keep the ids and states of regressions in the track's regressions.jsonl."
            ),
        ] = False,
        markdown: Annotated[
            str | None, typer.Option("--markdown", help="Write a report to FILE, or - to print it.")
        ] = None,
        json: Annotated[
            str | None,
            typer.Option("--json", help="Write all points and changes to FILE, or - to print them."),
        ] = None,
        branch: Branch = None,
        config: Config = None,
        track: TrackName = None,
        repo: Repo = None,
        quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    ) -> None:
        if context.invoked_subcommand:
            return
        from mlx_velocity.commands import history as command
        from mlx_velocity.commands.counting import counting
        from mlx_velocity.commands.targets import check_target

        if (markdown, json) == ("-", "-"):
            raise InputError("Markdown and JSON can't both go to the terminal", "write one of them to a file")
        for target in (markdown, json):
            check_target(target)
        silent = quiet or "-" in (markdown, json)
        loaded = _track(config, track, repo)
        options = command.HistoryOptions(case or None, since, machine, branch, only_regressions)
        with counting(console, "reading what is stored …") as tell:
            told = command.tell(loaded, options, tell)
        # All of it stays until the end: looking for garbage among millions of records takes longer than showing it.
        gc.freeze()
        if confirm:
            from mlx_velocity.commands import confirm as again

            before, measured = told, again.confirm(loaded, told, console, silent)
            told = command.tell(loaded, options) if measured else told
            if not silent:
                said = again.outcome(before, told) if measured else "Nothing is unconfirmed."
                console.print(said, highlight=False)
        if record:
            number = command.record(loaded, told)
            if not silent:
                console.print(f"{number} recorded in {loaded.name}/regressions.jsonl.", highlight=False)
        raise typer.Exit(command.show(told, markdown, json, quiet, console, repo))

    def decide(
        wanted: str, state: Any, because: str, fixed_by: str | None, branch: str | None, *where: Any
    ) -> None:
        from mlx_velocity.commands import history as command
        from mlx_velocity.report import history_words as words

        loaded = _track(*where)
        case, shift = command.decide(loaded, wanted, state, because, fixed_by, branch)
        console.print(
            f"{shift.id} is {state} now (it was {shift.state}): {escape(words.change(case, shift))} in {escape(case.label)} on "
            f"{escape(case.machine)}, with {escape(words.described(shift.commit))}. Commit "
            f"results/{escape(loaded.name)}/regressions.jsonl.",
            highlight=False,
        )

    @group.command(
        epilog='Examples:\n\nmlx-velocity history accept k3f9x2ab --because "exact sums cost that"'
    )
    def accept(
        wanted: Id,
        because: Annotated[
            str, typer.Option("--because", help="Why it is all right; kept in the repository.")
        ],
        branch: Branch = None,
        config: Config = None,
        track: TrackName = None,
        repo: Repo = None,
    ) -> None:
        """Stop the alarm of a regression that is there to stay."""
        if not because.strip():
            raise InputError("a regression is not accepted without a reason", 'say why with --because "…"')
        decide(wanted, "accepted", because, None, branch, config, track, repo)

    @group.command(
        epilog='Examples:\n\nmlx-velocity history reopen k3f9x2ab --because "it was no trade after all"'
    )
    def reopen(
        wanted: Id,
        because: Annotated[str, typer.Option("--because", help="Why it matters again.")] = "reopened",
        branch: Branch = None,
        config: Config = None,
        track: TrackName = None,
        repo: Repo = None,
    ) -> None:
        """Let a regression alarm again that was accepted or fixed."""
        decide(wanted, "open", because, None, branch, config, track, repo)

    @group.command(epilog="Examples:\n\nmlx-velocity history fixed k3f9x2ab --commit mlx-0.31.2")
    def fixed(
        wanted: Id,
        commit: Annotated[str, typer.Option("--commit", help="Commit, tag or branch that mends it.")],
        because: Annotated[str, typer.Option("--because", help="How it was mended.")] = "",
        branch: Branch = None,
        config: Config = None,
        track: TrackName = None,
        repo: Repo = None,
    ) -> None:
        """Say which commit mended a regression, before it is measured; two slow points behind it open it again."""
        decide(wanted, "fixed", because, commit, branch, config, track, repo)

    app.add_typer(group, name="history")


def _track(config: Path | None, name: str | None, repo: str | None) -> Any:
    from mlx_velocity import tracks

    return tracks.load(tracks.find_config(config, name, Path.cwd()), repo)
