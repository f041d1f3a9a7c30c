"""Whether all frameworks compute the same: from the same weights and inputs, in the same types, with the same result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mlx_velocity.across import REFERENCE, Entry, Finding, Row

BITS_APART = 0.02
"""Effective bits per weight that count as equal."""
LOGITS_APART = {"float32": 1e-3, "bfloat16": 5e-2}
"""Root-mean-square difference of logits over their root mean square, by the narrowest type in use.

The three frameworks are 2e-6 apart in float32 and 1.5e-2 in bfloat16, from another order of sums.
"""

Found = tuple[Finding, str, dict[str, str], list[str]]
"""Of a check: what was found, in a sentence, what each framework showed, and who is not like the reference."""


def compare(seen: dict[str, Any], words: Callable[[Any], str] = str) -> tuple[dict[str, str], list[str]]:
    """What was seen in words, and who differs from the reference."""
    if REFERENCE not in seen:
        return {}, []
    apart = [name for name, value in seen.items() if value != seen[REFERENCE]]
    return {name: words(value) for name, value in seen.items()}, apart


def differs(apart: list[str]) -> Finding:
    """The finding of a condition that the frameworks in `apart` do not meet."""
    return "differs" if apart else "equal"


def results(rows: Sequence[Row]) -> Found:
    """Every operator got the same inputs and gave what numpy gives in float64."""
    worst: dict[str, float] = {}
    wrong: list[str] = []
    for row in rows:
        for entry in row.entries:
            if not entry.facts:
                continue
            if not computes_the_same(entry, row):
                wrong.append(entry.framework)
            error = entry.facts["error"]
            share = np.inf if error is None else error / entry.facts["tolerance"]
            worst[entry.framework] = max(worst.get(entry.framework, 0.0), share)
    words = {name: f"worst error {share:.2g} of what is tolerated" for name, share in worst.items()}
    apart = list(dict.fromkeys(wrong))
    sentence = "not the same result" if apart else "same inputs; results agree with numpy's in float64"
    return "wrong" if apart else "equal", sentence, words, apart


def computes_the_same(entry: Entry, row: Row) -> bool:
    """Whether an entry's inputs, work and results are those of the reference, as far as they were checked."""
    reference = next((item for item in row.entries if item.framework == REFERENCE and item.facts), entry)
    facts, other = entry.facts, reference.facts
    if row.task.kind == "operator":
        same = (facts["inputs"], facts["calls"]) == (other["inputs"], other["calls"])
        return same and facts["error"] is not None and facts["error"] <= facts["tolerance"]
    keys = ("prompt", "prompt_tokens", "steps")
    return all(facts.get(key) == other.get(key) for key in keys)


def operator_types(rows: Sequence[Row]) -> Found:
    """The types of all operators; stored formats of quantized weights are judged by their bits."""
    seen: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        quantized = any(entry.facts.get("bits") for entry in row.entries)
        for entry in row.entries:
            if entry.facts:
                dtypes = {
                    k: v for k, v in entry.facts["dtypes"].items() if not (quantized and k == "weights")
                }
                seen.setdefault(entry.framework, []).append(dtypes)
    return types(seen)


def types(seen: dict[str, list[dict[str, str]]]) -> Found:
    """Weights, activations and caches have the same types; stored formats of quantized weights may differ."""
    sets = {
        name: {kind: sorted({item[kind] for item in items if kind in item}) for kind in ("weights", "activations", "kv_cache")}
        for name, items in seen.items()
    }  # fmt: skip
    plain = {
        name: {kind: found for kind, found in kinds.items() if kind != "weights" or not _quantized(sets)}
        for name, kinds in sets.items()
    }
    apart = compare(plain)[1]
    words = {
        name: ", ".join(
            f"{kind.replace('_', ' ')} {' and '.join(found)}" for kind, found in kinds.items() if found
        )
        for name, kinds in sets.items()
    }
    return differs(apart), "not computed in the same types" if apart else "same types", words, apart


def _quantized(sets: dict[str, dict[str, list[str]]]) -> bool:
    return any("bit" in kind for kind in sets.get(REFERENCE, {}).get("weights", []))


def operator_bits(rows: Sequence[Row]) -> Found:
    """Quantized operators: effective bits of a weight, scales included."""
    seen: dict[str, dict[str, float]] = {}
    for row in rows:
        for entry in row.entries:
            if entry.facts.get("bits"):
                seen.setdefault(entry.framework, {})[row.task.name] = entry.facts["bits"]
    reference = seen.get(REFERENCE, {})
    apart = [
        name for name, bits in seen.items()
        if any(abs(value / reference.get(task, value) - 1) > BITS_APART for task, value in bits.items())
    ]  # fmt: skip
    words = {
        name: ", ".join(f"{value:.2f}" for value in sorted(set(bits.values()))) + " bits a weight"
        for name, bits in seen.items()
    }
    return differs(apart), _bits_sentence(apart), words, apart


def same_weights(models: dict[str, dict[str, Any]]) -> bool:
    """Whether all have the same values, by their digests."""
    digests = {facts["digest"] for facts in models.values()}
    return len(digests) == 1 and None not in digests


def weights(models: dict[str, dict[str, Any]]) -> Found:
    """The same values; or, quantized by each framework's own rule, the same effective bits per weight."""
    bits = {name: facts["bytes"] * 8 / facts["weights"] for name, facts in models.items()}
    words = {
        name: f"{facts['weights']:,} weights, {bits[name]:.2f} bits each" + (f", digest {facts['digest']}" if facts["digest"] else "")
        for name, facts in models.items()
    }  # fmt: skip
    if REFERENCE not in models:
        return "unknown", "", {}, []
    counts = compare({name: facts["weights"] for name, facts in models.items()})[1]
    digests = compare({name: facts["digest"] for name, facts in models.items()})[1]
    if counts or digests:
        apart = list(dict.fromkeys([*counts, *digests]))
        return "wrong", "not the same weights", words, apart
    if same_weights(models):
        return "equal", "same values", words, []
    apart = [name for name, value in bits.items() if abs(value / bits[REFERENCE] - 1) > BITS_APART]
    return (
        differs(apart),
        f"from the same float weights, quantized by each; {_bits_sentence(apart)}",
        words,
        apart,
    )


def _bits_sentence(apart: list[str]) -> str:
    return "not the same effective bits per weight" if apart else "same effective bits per weight"


def lengths(rows: Sequence[Row]) -> Found:
    """The same token ids go in, and as many come out."""
    words, apart = _of_stages(rows, ("prompt", "prompt_tokens", "steps"), "{1} tokens in ({0})", ", {2} out")
    sentence = "not the same prompt or length" if apart else "same ids in, as many out"
    return "wrong" if apart else "equal", sentence, words, apart


def evaluated(rows: Sequence[Row]) -> Found:
    """The same chunks, as many rows of logits, and the host reads the tokens at the same points."""
    keys = ("logits_rows", "chunk", "read_by_host")
    words, apart = _of_stages(
        rows, keys, "{0} rows of logits", " of the last chunk of {1}", ", host reads {2}"
    )
    return differs(apart), "not evaluated at the same points" if apart else "same points", words, apart


def _of_stages(rows: Sequence[Row], keys: tuple[str, ...], *parts: str) -> tuple[dict[str, str], list[str]]:
    """Facts of each stage side by side; a part of the words is left out where its fact is not there."""
    said: dict[str, list[str]] = {}
    apart: list[str] = []
    for row in rows:
        wanted = next((entry.facts for entry in row.entries if entry.framework == REFERENCE), {})
        for entry in row.entries:
            if not entry.facts:
                continue
            values = [entry.facts.get(key) for key in keys]
            if wanted and values != [wanted.get(key) for key in keys]:
                apart.append(entry.framework)
            kept = [
                part
                for part in parts
                if all(v is not None or f"{{{i}}}" not in part for i, v in enumerate(values))
            ]
            said.setdefault(entry.framework, []).append(f"{row.task.kind}: " + "".join(kept).format(*values))
    return {name: "; ".join(items) for name, items in said.items()}, list(dict.fromkeys(apart))


def logits(rows: Sequence[Row], same: bool, dtype: str) -> Found:
    """The same weights give the same logits at the last position of the prompt."""
    found = {
        e.framework: np.array(e.facts["logits"]) for row in rows for e in row.entries if "logits" in e.facts
    }
    if REFERENCE not in found:
        return "unknown", "", {}, []
    wanted = found[REFERENCE]
    size = float(np.sqrt((wanted**2).mean()))
    off = {
        name: float(np.sqrt(((value - wanted) ** 2).mean())) / size
        if value.shape == wanted.shape
        else float("inf")
        for name, value in found.items()
    }
    words = {name: "reference" if name == REFERENCE else f"{value:.2g} apart" for name, value in off.items()}
    if not same:
        return "unknown", "as far apart as the rounding of the weights", words, []
    apart = [name for name, value in off.items() if not value <= LOGITS_APART.get(dtype, 5e-2)]
    return (
        "wrong" if apart else "equal",
        "other logits" if apart else "same logits, within rounding",
        words,
        apart,
    )


def greedy(rows: Sequence[Row], same: bool, dtype: str) -> Found:
    """All take the likeliest token; with the same float32 weights, it is the same one every time."""
    found = {e.framework: e.facts for row in rows for e in row.entries if "tokens" in e.facts}
    if REFERENCE not in found:
        return "unknown", "", {}, []
    wanted = found[REFERENCE]["tokens"]
    agree = {name: _agreeing(facts["tokens"], wanted) for name, facts in found.items()}
    words = {
        name: f"{facts['sampling']}, first {agree[name]} of {len(wanted)} tokens as in the reference"
        for name, facts in found.items()
    }
    other = compare({name: facts["sampling"] for name, facts in found.items()})[1]
    if other:
        return "differs", "not all sample greedily", words, other
    apart = [name for name, count in agree.items() if count < len(wanted)]
    if same and dtype == "float32":
        return (
            "wrong" if apart else "equal",
            "other tokens" if apart else "greedy, and the same tokens",
            words,
            apart,
        )
    reason = "rounding differs" if same else "the weights do"
    return "equal", f"greedy; tokens part where two are nearly as likely, as {reason}", words, []


def _agreeing(tokens: Sequence[int], wanted: Sequence[int]) -> int:
    pairs = zip(tokens, wanted, strict=False)
    return next(
        (index for index, (one, other) in enumerate(pairs) if one != other), min(len(tokens), len(wanted))
    )


def narrowest(models: dict[str, dict[str, Any]]) -> str:
    """`float32` where nothing is narrower, else `bfloat16`."""
    kinds = {kind for facts in models.values() for kind in facts["dtypes"].values()}
    return "float32" if kinds == {"float32"} else "bfloat16"
