"""What makes a comparison of frameworks fair, judged by what each of them said and did.

The list is that of the usual advice (same weights or effective bits, prompt and length, sampling, warm-up,
machine) and what we found to matter beside it: threads, types, what is evaluated, and who else computes.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np

from mlx_velocity import sameness, units
from mlx_velocity.across import REFERENCE, Check, Participant, Row
from mlx_velocity.sameness import Found, differs

STILL_WARMING = 1.25
"""The first turn over the median of the others."""
BUSY = 1.15
"""Cores kept busy over the threads that were given."""
DISTURBED = 0.85
"""Of one core: a computation on a CPU that gets less of it shares it with somebody."""
IDLE = 0.05
"""Cores that a waiting framework may keep busy."""


def checks(participants: Sequence[Participant], rows: Sequence[Row], threads: int) -> list[Check]:
    """All checks, in the order in which a reader needs them; of at least two frameworks."""
    found = [
        Check("machine", "", *machine(participants)),
        Check("device", "", *device(participants)),
        Check("threads", "", *busy(participants, rows, threads)),
        Check("undisturbed", "", *undisturbed(participants, rows)),
        Check("alone", "", *alone(rows)),
        Check("warm", "", *warm(rows)),
    ]
    of_operators = [row for row in rows if row.task.kind == "operator"]
    if of_operators:
        found += [
            Check("results", "operators", *sameness.results(of_operators)),
            Check("types", "operators", *sameness.operator_types(of_operators)),
            Check("bits", "operators", *sameness.operator_bits(of_operators)),
        ]
    for spec in dict.fromkeys(row.task.spec for row in rows if row.task.kind != "operator"):
        there = {p.framework: p.models[spec] for p in participants if "weights" in p.models.get(spec, {})}
        stages = [row for row in rows if row.task.kind != "operator" and row.task.spec == spec]
        same = sameness.same_weights(there)
        found += [
            Check("weights", spec, *sameness.weights(there)),
            Check("types", spec, *sameness.types({name: [facts["dtypes"]] for name, facts in there.items()})),
            Check("prompt and length", spec, *sameness.lengths(stages)),
            Check("evaluated", spec, *sameness.evaluated(stages)),
            Check("logits", spec, *sameness.logits(stages, same, sameness.narrowest(there))),
            Check("greedy", spec, *sameness.greedy(stages, same, sameness.narrowest(there))),
        ]
    return [check for check in found if len(check.seen) > 1]


def machine(participants: Sequence[Participant]) -> Found:
    """All are processes of one machine; where the system can pin, on the same cores."""
    words, apart = sameness.compare(
        {p.framework: p.affinity for p in participants},
        lambda cores: f"core {', '.join(map(str, cores))}" if cores else "all cores",
    )
    sentence = "all are children of one process, one after the other on the same cores"
    return differs(apart), "on different cores" if apart else sentence, words, apart


def device(participants: Sequence[Participant]) -> Found:
    """All on the CPU or all on a GPU, as each says itself."""
    kinds = {p.framework: p.about["kind"] for p in participants}
    apart = sameness.compare(kinds)[1]
    words = {
        p.framework: f"{p.about['kind']}: {p.about['device']}, {p.about['version']}" for p in participants
    }
    sentence = (
        "not the same kind of device" if apart else f"all say that they are on the {kinds.get(REFERENCE)}"
    )
    return differs(apart), sentence, words, apart


def busy(participants: Sequence[Participant], rows: Sequence[Row], threads: int) -> Found:
    """As many threads as were given, and no more cores kept busy than that (on a CPU)."""
    measured = {
        p.framework: max((t.busy_cores for row in rows for e in row.entries if e.framework == p.framework for t in e.turns), default=0.0)
        for p in participants
    }  # fmt: skip
    words = {
        p.framework: f"{units.count(p.about['threads'], 'thread')}, at most {measured[p.framework]:.2f} cores busy"
        for p in participants
    }
    on_cpu = all(p.about["kind"] == "cpu" for p in participants)
    allowed = {p.framework: {threads, 1} if p.framework == REFERENCE else {threads} for p in participants}
    apart = [
        p.framework
        for p in participants
        if on_cpu
        and (p.about["threads"] not in allowed[p.framework] or measured[p.framework] > threads * BUSY)
    ]
    if on_cpu and threads > 1:
        # MLX computes in one thread on a CPU, whatever it is given.
        apart += [p.framework for p in participants if p.framework != REFERENCE and p.framework not in apart]
    sentence = f"{threads} given; MLX computes in one thread on a CPU" if on_cpu else "of the host alone"
    return differs(apart), sentence, words, apart


def undisturbed(participants: Sequence[Participant], rows: Sequence[Row]) -> Found:
    """On a CPU, what is measured got at least one core to itself; on a GPU the host may wait."""
    taken: dict[str, list[float]] = {}
    for row in rows:
        for entry in row.entries:
            taken.setdefault(entry.framework, []).extend(turn.busy_cores for turn in entry.turns)
    seen = {name: float(np.quantile(values, 0.1)) for name, values in taken.items() if values}
    on_cpu = all(participant.about["kind"] == "cpu" for participant in participants)
    apart = [name for name, value in seen.items() if on_cpu and value < DISTURBED]
    words = {name: f"at least {value:.2f} cores busy in 9 of 10 turns" for name, value in seen.items()}
    sentence = "somebody else computed on the same cores" if apart else "each had its core to itself"
    return differs(apart), sentence if on_cpu else "of the host alone", words, apart


def alone(rows: Sequence[Row]) -> Found:
    """While one is measured, the others wait without computing."""
    idle: dict[str, float] = {}
    waited: dict[str, float] = {}
    for row in rows:
        for entry in row.entries:
            for turn in entry.turns:
                idle[entry.framework] = idle.get(entry.framework, 0.0) + turn.idle_s
                waited[entry.framework] = waited.get(entry.framework, 0.0) + turn.waited_s
    seen = {name: idle[name] / waited[name] for name in idle if waited[name] > 0}
    apart = [name for name, value in seen.items() if value > IDLE]
    words = {
        name: f"{value:.3f} cores busy in {waited[name]:.0f} s of waiting" for name, value in seen.items()
    }
    sentence = "somebody computes while others are measured" if apart else "only one computes at a time"
    return differs(apart), sentence, words, apart


def warm(rows: Sequence[Row]) -> Found:
    """Each task was run before it was timed, and its first turn was no slower than the others."""
    runs: dict[str, int] = {}
    firsts: dict[str, list[float]] = {}
    for row in rows:
        for entry in row.entries:
            if not entry.turns:
                continue
            count = int(entry.facts["warm_ups"])
            runs[entry.framework] = min(runs.get(entry.framework, count), count)
            medians = [statistics.median(turn.samples) for turn in entry.turns]
            if len(medians) > 2:
                firsts.setdefault(entry.framework, []).append(medians[0] / statistics.median(medians[1:]))
    middle = {name: statistics.median(values) for name, values in firsts.items()}
    apart = [name for name in runs if runs[name] < 1 or middle.get(name, 1.0) > STILL_WARMING]
    words = {
        name: f"at least {runs[name]} runs before" + (f", first turn {middle[name]:.2f} × the others" if name in middle else "")
        for name in runs
    }  # fmt: skip
    sentence = "still warming up when it was timed" if apart else "warmed up: first turns are like later ones"
    return differs(apart), sentence, words, apart
