"""The rule of the gate for one head, its settings, and its rows in the table `promotions`."""

import math
from dataclasses import dataclass

from mtorl_model.evaluation.comparison import Difference
from schemas.json_config import JsonConfig

Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class GateConfig(JsonConfig):
    """When a challenger may become champion."""

    # Share of the champion's log loss by which a head may be worse: about the effect of one day of fine-tuning. An
    # unchanged challenger passes, and a clearly worse one does not.
    margin: float = 0.01
    # A head that is worse within the margin passes if the upper end of its interval is at most this many margins.
    worst: float = 3.0
    days: int = 14  # number of latest days whose validation users are used
    # Validation windows of these days to read, about: of a large log, those of a part of the users (panel.py).
    windows: int = 20_000
    shift: float = 0.1  # share of the probability that a policy may move to other channels, mean over the steps
    # Share of the log loss of the last full training by which a head may be worse, in all days since then together. Two
    # daily margins: with one, the first day's error of measurement would use up what all later days may cost.
    total_margin: float = 0.02
    total_days: int = 30  # number of latest days whose validation users are used for it
    total_windows: int = 10_000  # validation windows to read for it, about
    fresh_fit_weekday: int = 7  # when the champion is compared with a fresh fit, 1 to 7 from Monday; 0: never
    fresh_fit_margin: float = 0.02  # a full training is due if a head is worse by more than this share of the loss
    fresh_fit_windows: int = 10_000  # windows of training users to draw for the trees, at most
    fresh_fit_labels: int = 50_000  # labels in these windows to fit on, at most


def is_not_worse(difference: Difference, gate: GateConfig) -> bool:
    """Whether the challenger's head is not worse, by the rule in gate.py."""
    allowed = gate.margin * difference.base_loss
    is_high_allowed = difference.high is None or difference.high <= gate.worst * allowed
    # Both are False for NaN.
    return difference.value <= 0 or (difference.value <= allowed and is_high_allowed)


def head_row(difference: Difference, gate: GateConfig, reference: str = "") -> Row:
    """reference: the model in the comparison, in words; empty for the champion."""
    comparison = f" than {reference}," if reference else ""
    allowed = gate.margin * difference.base_loss
    reason = ""
    if not math.isfinite(difference.value):
        reason = f"{difference.head} cannot be compared{comparison}: a predicted probability is not a number"
    elif difference.value > allowed:
        reason = f"{difference.head} is worse{comparison} by {difference.value:+.5f}; at most {allowed:.5f} is allowed"
    elif not is_not_worse(difference, gate):
        most = gate.worst * allowed
        reason = f"{difference.head} may be worse{comparison} by {difference.high:+.5f}; at most {most:.5f} is allowed"
    return check_row(difference.head, reason, difference) | losses(difference, allowed)


def losses(difference: Difference, allowed: float) -> Row:
    figures = {
        "champion_logloss": difference.base_loss, "challenger_logloss": difference.candidate_loss,
        "difference": difference.value, "low": difference.low, "high": difference.high, "margin": allowed,
    }  # fmt: skip
    # A loss that is not a number is left out: the row has its reason, and no table contains NaN.
    return {name: value if value is not None and math.isfinite(value) else None for name, value in figures.items()}


def check_row(check: str, reason: str, difference: Difference | None = None) -> Row:
    """A check's row; an empty reason means that it passed."""
    users, labels = (difference.users, difference.labels) if difference else (0, 0)
    return {"check": check, "passed": not reason, "reason": reason, "users": users, "labels": labels}
