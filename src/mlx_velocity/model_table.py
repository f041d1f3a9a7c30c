"""The table of a machine that people paste into issues: models down, stages across. Says which case each cell is.

The numbers are filled in where a commit is chosen, so this depends on no measurement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mlx_velocity import changes, metrics, roofline
from mlx_velocity.anatomy import Config
from mlx_velocity.errors import InputError
from mlx_velocity.roofline import Peaks, Stage

View = Literal["rate", "time", "memory", "share", "joules"]
PREFILL, DECODE = "prefill.Prefill.time_prefill", "decode.Decode.time_decode"
FIRST, LORA = "first_token.FirstToken.time_first_token", "lora.Step.time_step"
PEAKS = ("decode.Memory.track_peak_bytes", "prefill.Memory.track_peak_bytes", "lora.Memory.track_peak_bytes")
PEAK_OF = {"decode": "decode", "prefill": "prefill", "lora": "LoRA"}
STAGES: dict[str, Stage] = {PREFILL: "prefill", DECODE: "decode"}
DTYPES = ("float32", "bfloat16", "float16", "8bit", "4bit")


@dataclass
class Column:
    """A column of the table."""

    label: str
    hint: str
    """What stands in it, in a sentence."""
    view: View
    better: Literal["more", "less"]
    cells: dict[str, int] = field(default_factory=dict)
    """Model → number of the case it shows."""


@dataclass(frozen=True)
class Measured:
    """A case as the table needs it."""

    number: int
    benchmark: str
    params: Mapping[str, str]
    """By name, as a reader writes them."""
    tokens: int | None


def known(
    keys: Sequence[tuple[str, str | None, str | None]],
    params_of: Callable[[str], tuple[str, ...]],
    benchmarks: Mapping[str, dict[str, Any]],
) -> list[Measured]:
    """The cases of an index's keys that are in the table, in their present version."""
    found = []
    for number, (name, version, written) in enumerate(keys):
        benchmark = benchmarks.get(name)
        if written is None or benchmark is None or version not in (None, str(benchmark["version"])):
            continue
        params = params_of(written)
        named = dict(zip(benchmark["param_names"], (text.strip("'\"") for text in params), strict=False))
        if name in (PREFILL, DECODE, FIRST, LORA, *PEAKS) and "model" in named:
            tokens = changes.tokens_at(params, metrics.SECONDS.unit, benchmark)
            found.append(Measured(number, name, named, tokens))
    return found


def columns(cases: Iterable[Measured]) -> list[Column]:
    """The columns for which there are cases, in the order of reading."""
    made: dict[tuple[int, int, str], Column] = {}

    def put(place: int, size: int, case: Measured, label: str, hint: str, view: View) -> None:
        key = (place, size, label)
        better: Literal["more", "less"] = "more" if view in ("rate", "share") else "less"
        made.setdefault(key, Column(label, hint, view, better)).cells.setdefault(
            case.params["model"], case.number
        )

    for case in cases:
        tokens, depth = (_number(case.params.get(key)) for key in ("tokens", "depth"))
        if case.benchmark == PREFILL:
            put(0, tokens, case, f"pp{tokens}", f"prefill of {tokens} tokens, tokens/s", "rate")
            put(4, tokens, case, f"pp{tokens} % of roofline", _SHARE.format("prefill", tokens), "share")
            put(8, tokens, case, f"pp{tokens} J/token", "energy of a token of the prompt", "joules")
        elif case.benchmark == DECODE:
            label = f"tg{case.tokens}" + (f"@d{depth}" if depth else "")
            put(1, depth, case, label, f"{case.tokens} tokens generated behind {depth}, tokens/s", "rate")
            put(5, depth, case, f"{label} % of roofline", _SHARE.format("decode", case.tokens), "share")
            put(9, depth, case, f"{label} J/token", "energy of a generated token", "joules")
        elif case.benchmark == FIRST:
            put(
                2,
                tokens,
                case,
                f"TTFT {tokens}",
                f"time to first token of a prompt of {tokens} tokens",
                "time",
            )
        elif case.benchmark == LORA:
            put(3, 0, case, "LoRA", f"LoRA step on {case.tokens} tokens, tokens/s", "rate")
        else:
            stage = case.benchmark.partition(".")[0]
            size = tokens or depth
            put(
                6 + PEAKS.index(case.benchmark) % 2,
                size,
                case,
                f"peak {PEAK_OF[stage]}{f' {size}' if size else ''}",
                "most memory that MLX held at once",
                "memory",
            )
    return [made[key] for key in sorted(made, key=lambda key: key[:2])]


_SHARE = "the least time that {} of {} tokens can take on this machine, over the measured time"


def models(cases: Iterable[Measured]) -> list[tuple[str, str, str]]:
    """The models of the cases: as benchmarks call them, their shape, and their type. Those of a shape stand together,
    widest first; shapes stand in the order of the cases."""
    found = [(name, *_split(name)) for name in dict.fromkeys(case.params["model"] for case in cases)]
    shapes = [shape for _, shape, _ in found]
    return sorted(found, key=lambda item: (shapes.index(item[1]), (*DTYPES, "").index(item[2])))


def least_seconds(
    cases: Iterable[Measured], peaks: Peaks, config_of: Callable[[str], Config | None], chunk: int
) -> dict[int, float]:
    """The least time that each prefill and decode can take on a machine, by the number of its case.

    `config_of` gives a model's config, or None where nobody knows it. `chunk` is how many tokens our prefill takes
    at a time; it computes the logits of all of the last ones. What can't be counted is left out.
    """
    made = {}
    for case in cases:
        stage = STAGES.get(case.benchmark)
        tokens = case.tokens
        if stage is None or not tokens or (config := config_of(case.params["model"])) is None:
            continue
        depth = _number(case.params.get("depth")) if stage == "decode" else 0
        try:
            placed = roofline.place(
                config,
                stage=stage,
                tokens=tokens,
                seconds=None,
                peaks=peaks,
                depth=depth,
                chunk=chunk,
                logits=chunk,
            )
        except InputError:
            continue
        if placed.least_seconds:
            made[case.number] = placed.least_seconds
    return made


def _split(model: str) -> tuple[str, str]:
    shape, _, dtype = model.rpartition("-")
    return (shape, dtype) if shape and dtype in DTYPES else (model, "")


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() and len(text) < 12 else 0
