"""What `bench` was asked for, as a list of trials; and the texts that it brings along."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from mlx_velocity.bench import Trial
from mlx_velocity.errors import InputError

MOST = 1000
"""Numbers that a range may have: more is a slip of the finger."""
USUAL_BATCH = 4
"""For mlx_lm's batches where no batch size above 1 is given."""
BETWEEN = "---"
"""A line that ends one text of a file."""

_SENTENCE = (
    "The night train left at a quarter past nine, and by the time the lamps were lit the four of us had "
    "agreed on a rule: each would tell one story, no story might be about trains, and whoever fell asleep "
    "first would pay for breakfast. "
)
TEXTS = {
    "short": "Name three rivers.",
    "medium": "Explain to somebody who cooks but has never written a program what a cache is. Use a kitchen as "
    "the picture: what lies on the worktop, what stands in the cupboard, what has to be fetched from "
    "the shop, and why the worktop must stay small. Say when the picture stops being true. End "
    "with one thing that goes wrong when two cooks share a kitchen, and how they could agree.",
    "long": "Go on with this story for one more page, in the same voice.\n\n" + _SENTENCE * 8,
}
"""Prompts by name: about 20, 350 and 2,000 letters; with a tokenizer a fifth to a quarter as many tokens."""


@dataclass(frozen=True)
class Wanted:
    """The lists of numbers, and which further ways of generating are asked for."""

    prompts: str = "512"
    generated: str = "128"
    depths: str = "0"
    batches: str = "1"
    stepwise: bool = False
    batched: bool = False
    draft: str = ""
    reuse: bool = False


def trials(wanted: Wanted) -> list[Trial]:
    """Each trial once, in the order in which they are measured. InputError where nothing is left."""
    depths = numbers(wanted.depths, "-d", least=0)
    batches = numbers(wanted.batches, "-b", least=1)
    lengths = [count for count in numbers(wanted.prompts, "-p", least=0) if count]
    generated = [count for count in numbers(wanted.generated, "-n", least=0) if count]
    found: list[Trial] = []
    for depth in depths:
        for batch in batches:
            found += [Trial("prefill", count, depth, batch) for count in lengths]
            for count in generated:
                found.append(Trial("decode", count, depth, batch))
                found += [Trial("stepwise", count, depth, batch)] * wanted.stepwise
        for count in generated:
            larger = [batch for batch in batches if batch > 1] or [USUAL_BATCH]
            found += [Trial("batched", count, depth, batch) for batch in larger] * wanted.batched
            found += [Trial("speculative", count, depth, draft=wanted.draft)] * bool(wanted.draft)
    # A prompt of one token has nothing that could be reused.
    found += [Trial("reuse", count) for count in lengths if count > 1] * wanted.reuse
    if not found:
        raise InputError("there is nothing to measure", "give -p or -n a number above 0")
    return list(dict.fromkeys(found))


def of_texts(texts: dict[str, str], generated: str) -> list[Trial]:
    """A trial for each text and number of generated tokens; InputError for an answer of no token."""
    counts = numbers(generated, "-n", least=1)
    labels = [(name, count) for name in texts for count in counts]
    found = [Trial("text", count, label=name) for name, count in labels]
    if len(counts) > 1:
        found = [replace(trial, label=f"{trial.label} tg{trial.tokens}") for trial in found]
    return found


def numbers(text: str, option: str, least: int) -> list[int]:
    """The numbers of an option: `512`, `128,512`, `128-512+128` or `128-4096*2`, as llama-bench takes them.

    InputError for anything else, and for a number below `least`.
    """
    found = [number for part in text.split(",") for number in _span(part.strip(), option)]
    if not found or min(found) < least:
        raise InputError(
            f"{option} takes numbers of at least {least}", f"write {option} 512 or {option} 128,512"
        )
    return list(dict.fromkeys(found))


def _span(part: str, option: str) -> list[int]:
    """`5` → 5; `1-4` → 1, 2, 3, 4; `128-512*2` → 128, 256, 512."""
    match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9})(?:([+*])(\d{1,9}))?)?", part)
    if match is None:
        raise InputError(
            f"{option} {part!r} is no number", f"write {option} 512, {option} 128,512 or {option} 128-4096*2"
        )
    first, last = int(match[1]), int(match[2] or match[1])
    sign, step = match[3] or "+", int(match[4] or 1)
    if last < first or step < (2 if sign == "*" else 1) or (sign == "*" and first == 0):
        raise InputError(f"{option} {part} leads nowhere", "write FIRST-LAST+STEP or FIRST-LAST*FACTOR")
    found: list[int] = []
    while first <= last:
        if len(found) == MOST:
            raise InputError(f"{option} {part} is more than {MOST} numbers", "give a larger step")
        found.append(first)
        first = first * step if sign == "*" else first + step
    return found


def texts_of(path: Path) -> dict[str, str]:
    """The texts of a file by number, with a line of three dashes between two; InputError where there is none."""
    try:
        content = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} can't be read: {error}", "give a text file in UTF-8") from error
    parts = re.split(rf"^{BETWEEN}[ \t]*$", content, flags=re.MULTILINE)
    found = [part.strip() for part in parts if part.strip()]
    if not found:
        raise InputError(f"{path} holds no text", f"write prompts into it, with a line {BETWEEN} between two")
    return {f"text {number}": text for number, text in enumerate(found, 1)}
