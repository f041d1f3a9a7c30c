"""A change as a template shows it, on the page of its case as on that of all changes."""

from __future__ import annotations

import math
from typing import Any

from mlx_velocity import units
from mlx_velocity.history_report import CaseHistory, HistoryReport, Shift
from mlx_velocity.report import history_words as words
from mlx_velocity.site.record import case_page, commit_page


def row(told: HistoryReport, case: CaseHistory, shift: Shift, grew: str = "") -> dict[str, Any]:
    """What is said of a change: all of it texts, but for numbers to sort by. `grew` is what its profile says."""
    levels = [units.quantity(value, case.unit) for value in (shift.before, shift.after)]
    rates = [words.rate(case, value) for value in (shift.before, shift.after)]
    return {
        "id": shift.id,
        "machine": case.machine,
        "environment": case.environment,
        "label": case.label,
        "page": case_page(case.benchmark, case.params),
        "size": words.change(case, shift),
        "confidence": units.share(shift.confidence) if shift.confidence < 1 else "",
        "levels": " → ".join(levels),
        "rates": " → ".join(rates) if all(rates) else "",
        "weight": round(abs(math.log(shift.ratio)), 6),
        "direction": shift.direction,
        "state": shift.state,
        "commit": vars(shift.named),
        "commit_page": commit_page(shift.named.hash),
        "suspects": shift.suspects,
        "bisected": bool(shift.blamed),
        "reason": shift.reason,
        "grew": grew,
        "explained": list(words.explained(shift)),
        "commands": [command.partition(": ")[::2] for command in words.commands(told, case, shift)],
    }
