"""Labels as they were known at one moment, and what is done about gains that were still to come.

A conversion may follow days after its exposure. Training at the end of a day counts as gained only what happened
before that; of a step without it nobody knows yet whether the gain will come. `FeedbackConfig.correction` says what
the loss makes of such a step, by one number a label, its maturity m: the chance that a gain which is going to come
would be known by now. The loss of "not gained yet" is -log(1 - m p) for a predicted chance p (losses.py).

none        m = 1: not yet is taken for never.
wait        m = 0 before `waiting_days` have passed (the label bears no loss of that gain), 1 from then on.
likelihood  m = F(age), F being the distribution of delays: the likelihood of Chapelle (Modeling delayed feedback in
            display advertising, KDD 2014), with F estimated on its own and of no assumed shape. Its gradient is that
            of a reweighted cross-entropy, in which a step not yet gained weighs m (1 - p) / (1 - m p).

F is estimated from gains that are already known, of which the slow ones are missing: each was seen only because its
delay is shorter than its age. That is right truncation; the estimator is Lynden-Bell's (Kaplan-Meier in reversed time).
N labels, X any shape.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.lake import Lake
from lakehouse.reading import consistent_read, read_tables
from schemas.dataset import Dataset
from schemas.json_config import JsonConfig, require
from schemas.splits import TRAIN
from schemas.tables import SEQUENCES

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

NONE, WAIT, LIKELIHOOD = "none", "wait", "likelihood"
CORRECTIONS = (NONE, WAIT, LIKELIHOOD)  # see above

# With fewer known gains that could have had a delay, nothing is claimed about it: longer ones are left out.
_FEWEST_AT_RISK = 20
_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class FeedbackConfig(JsonConfig):
    """How training treats gains that may still come."""

    correction: str = LIKELIHOOD  # one of CORRECTIONS
    waiting_days: float = 7.0  # of "wait": how old a label must be to count

    def __post_init__(self) -> None:
        require(
            self.correction in CORRECTIONS,
            f"feedback config: unknown correction '{self.correction}': choose one of {', '.join(CORRECTIONS)}",
        )


@dataclass(frozen=True, slots=True, eq=False)
class Maturity:
    """F as a step function: `share` of the gains that come at all are known once their age reaches `delay_s`.

    Before the first delay it is 0. Without any entry nothing is known about delays, and F is 1 at once.
    """

    delay_s: Floats  # ascending
    share: Floats  # the last is 1

    def at(self, age_s_X: Floats) -> Floats:
        if not len(self.delay_s):
            return np.ones_like(age_s_X)
        reached_X = np.searchsorted(self.delay_s, age_s_X, side="right")
        known_X: Floats = np.concatenate([[0.0], self.share])[reached_X]
        return known_X


AT_ONCE = Maturity(np.zeros(0), np.zeros(0))


@dataclass(frozen=True, slots=True, eq=False)
class KnownBy:
    """The moment whose knowledge labels are cut back to, and the maturity of each late gain by its name."""

    at_ms: int
    maturity: Mapping[str, Maturity]

    @property
    def key(self) -> str:
        """SHA-256 over the content."""
        digest = hashlib.sha256(str(self.at_ms).encode())
        for gain, maturity in sorted(self.maturity.items()):
            digest.update(gain.encode() + maturity.delay_s.tobytes() + maturity.share.tobytes())
        return digest.hexdigest()


def fit_known_by(at_ms: int, windows: Iterable[pa.Table], dataset: Dataset, config: FeedbackConfig) -> KnownBy:
    """What was known at at_ms. windows: of training users, with is_label, exposed_at_ms, and each late gain's time.

    The windows are read only where the correction is `likelihood` and the dataset has late gains.
    """
    gains = dataset.late_gain_times
    if config.correction == NONE or not gains:
        return KnownBy(at_ms, dict.fromkeys(gains, AT_ONCE))
    if config.correction == WAIT:
        waited = Maturity(np.array([config.waiting_days * _DAY_S]), np.ones(1))
        return KnownBy(at_ms, dict.fromkeys(gains, waited))
    assert config.correction == LIKELIHOOD
    delay_s: dict[str, list[Floats]] = {gain: [] for gain in gains}
    age_s: dict[str, list[Floats]] = {gain: [] for gain in gains}
    for table in windows:
        label_M = _flat(table, "is_label").fill_null(False).to_numpy(zero_copy_only=False)
        exposed_M = _flat(table, "exposed_at_ms").to_numpy(zero_copy_only=False)
        for gain, known_at in gains.items():
            known_M = _flat(table, known_at).to_numpy(zero_copy_only=False).astype(np.float64)  # NaN: never
            seen_M = label_M & (known_M < at_ms)
            delay_s[gain].append((known_M[seen_M] - exposed_M[seen_M]) / 1000)
            age_s[gain].append((at_ms - exposed_M[seen_M]) / 1000)
    return KnownBy(
        at_ms, {g: estimate_delays(*(np.concatenate([np.zeros(0), *x[g]]) for x in (delay_s, age_s))) for g in gains}
    )


def known_by_end_of(day: str, lake: Lake, dataset: Dataset, days: list[str], config: FeedbackConfig) -> KnownBy:
    """What was known at the end of `day`; delays from the sequences of `days`, training users alone."""
    columns = ["split", "is_label", "exposed_at_ms", *dataset.late_gain_times.values()]
    partitions = [lake[SEQUENCES, dataset, d].path for d in days]
    with consistent_read(partitions):
        tables = read_tables(partitions, columns)
        training = (table.filter(pc.equal(table.column("split"), TRAIN)) for table in tables)
        return fit_known_by(dataset.end_of_day_ms(day), training, dataset, config)


def estimate_delays(delay_s_N: Floats, age_s_N: Floats) -> Maturity:
    """F of gains seen because delay_s_N < age_s_N (their age now), by Lynden-Bell's estimator.

    F(t) is the product over the delays x > t of 1 - (gains with delay x) / (gains with delay <= x <= age). Delays
    that fewer than _FEWEST_AT_RISK gains could have shown are left out: F then is that of the shorter ones.
    """
    delays = np.sort(delay_s_N)
    ages = np.sort(age_s_N)
    x_K, count_K = np.unique(delays, return_counts=True)
    # Whoever is younger than x has a shorter delay, too.
    at_risk_K = np.searchsorted(delays, x_K, side="right") - np.searchsorted(ages, x_K, side="left")
    # Near 0 few gains are at risk because few are that fast, which is no lack of evidence: look at the ages there.
    enough_K = len(ages) - np.searchsorted(ages, x_K, side="left") >= _FEWEST_AT_RISK
    x_K, count_K, at_risk_K = x_K[enough_K], count_K[enough_K], at_risk_K[enough_K]
    if not len(x_K):
        return AT_ONCE
    survived_K = np.cumprod((1 - count_K / at_risk_K)[::-1])[::-1]  # product over delays >= x
    return Maturity(x_K, np.append(survived_K[1:], 1.0))


def _flat(table: pa.Table, name: str) -> pa.Array:
    return table.column(name).combine_chunks().flatten()
