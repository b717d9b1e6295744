"""Labels as they were known at a cutoff, and how the loss treats gains that may still follow.

A conversion may follow days after its exposure. A training at the end of a day sees only the conversions before that
moment; for every other step it is unknown whether a conversion will follow. `FeedbackConfig.correction` names how the
loss treats such a step. Each correction is expressed by one number for each label, its maturity m: the probability
that a gain, if it comes, is already known. With a predicted probability p, a label without a gain so far costs
-log(1 - m p) (methods/mtorl/losses.py).

none        m = 1: a gain that is not known yet counts as a gain that never comes.
wait        m = 0 until `waiting_days` have passed (the label is ignored in the loss of that gain), 1 afterwards.
likelihood  m = F(age), where F is the distribution of delays. This is the likelihood of Chapelle (Modeling delayed
            feedback in display advertising, KDD 2014), except that F is estimated separately and has no parametric
            form. Its gradient is that of a reweighted cross-entropy, in which a step without a gain so far has the
            weight m (1 - p) / (1 - m p).

F is estimated from the gains that are already known. Slow gains are missing among them, because a gain is known only
if its delay is shorter than its age. This is right truncation; the estimator is that of Lynden-Bell (Kaplan-Meier in
reversed time).

Shape suffixes: N known gains, K distinct delays, M exposures, X any shape.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.user_splits import rows_of_split
from lakehouse.lake import Lake
from lakehouse.reading import consistent_read, read_tables
from schemas.dataset import Dataset
from schemas.json_config import JsonConfig, require
from schemas.splits import TRAIN
from schemas.tables import EXPOSURES

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

NO_CORRECTION, WAIT, LIKELIHOOD = "none", "wait", "likelihood"
CORRECTIONS = (NO_CORRECTION, WAIT, LIKELIHOOD)  # explained above

# A delay is used only if at least this many known gains are old enough to have had it; longer delays are left out.
_FEWEST_AT_RISK = 20
_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class FeedbackConfig(JsonConfig):
    """How training treats gains that may still follow."""

    correction: str = LIKELIHOOD  # one of CORRECTIONS
    waiting_days: float = 7.0  # for "wait": a label counts from this age on

    def __post_init__(self) -> None:
        require(
            self.correction in CORRECTIONS,
            f"feedback config: unknown correction '{self.correction}': choose one of {', '.join(CORRECTIONS)}",
        )


@dataclass(frozen=True, slots=True, eq=False)
class Maturity:
    """The distribution F of delays, as a step function of the age in seconds.

    Of all gains that come, `share[k]` are known at the age `delay_s[k]`; before the first delay F is 0. An empty
    table means that nothing is known about delays: F is 1 at every age.
    """

    delay_s: Floats  # ascending
    share: Floats  # the last is 1

    def share_known(self, age_s_X: Floats) -> Floats:
        """F at each age in seconds, in [0, 1]; the shape of the ages."""
        if not len(self.delay_s):
            return np.ones_like(age_s_X)
        reached_X = np.searchsorted(self.delay_s, age_s_X, side="right")
        known_X: Floats = np.concatenate([[0.0], self.share])[reached_X]
        return known_X


WITHOUT_DELAY = Maturity(np.zeros(0), np.zeros(0))


@dataclass(frozen=True, slots=True, eq=False)
class LabelCutoff:
    """The moment at which labels are read, and the maturity of each late gain by its name.

    A late gain counts only if it happened before the moment.
    """

    at_ms: int  # the moment, in milliseconds since 1970
    maturity: Mapping[str, Maturity]

    @property
    def key(self) -> str:
        """SHA-256 of the moment and the maturities."""
        digest = hashlib.sha256(str(self.at_ms).encode())
        for gain, maturity in sorted(self.maturity.items()):
            digest.update(gain.encode() + maturity.delay_s.tobytes() + maturity.share.tobytes())
        return digest.hexdigest()


def fit_cutoff(at_ms: int, windows: Iterable[pa.Table], dataset: Dataset, config: FeedbackConfig) -> LabelCutoff:
    """The cutoff at a moment, with the maturity that the correction asks for.

    windows: windows of training users with the columns is_label, exposed_at_ms, and the time of each late gain. They
    are read only if the correction is `likelihood` and the dataset has late gains.
    """
    return fit_cutoff_on_exposures(at_ms, (_label_rows(table, dataset) for table in windows), dataset, config)


def fit_cutoff_on_exposures(
    at_ms: int, exposures: Iterable[pa.Table], dataset: Dataset, config: FeedbackConfig
) -> LabelCutoff:
    """fit_cutoff from rows of exposures with exposed_at_ms and the time of each late gain."""
    gains = dataset.late_gain_times
    if config.correction == NO_CORRECTION or not gains:
        return LabelCutoff(at_ms, dict.fromkeys(gains, WITHOUT_DELAY))
    if config.correction == WAIT:
        waited = Maturity(np.array([config.waiting_days * _DAY_S]), np.ones(1))
        return LabelCutoff(at_ms, dict.fromkeys(gains, waited))
    assert config.correction == LIKELIHOOD
    delay_s: dict[str, list[Floats]] = {gain: [] for gain in gains}
    age_s: dict[str, list[Floats]] = {gain: [] for gain in gains}
    for table in exposures:
        exposed_M = table.column("exposed_at_ms").to_numpy()
        for gain, known_at in gains.items():
            known_M = table.column(known_at).to_numpy().astype(np.float64)  # NaN: never
            gained_M = known_M < at_ms
            delay_s[gain].append((known_M[gained_M] - exposed_M[gained_M]) / 1000)
            age_s[gain].append((at_ms - exposed_M[gained_M]) / 1000)
    return LabelCutoff(
        at_ms, {g: estimate_delays(*(np.concatenate([np.zeros(0), *x[g]]) for x in (delay_s, age_s))) for g in gains}
    )


def cutoff_at_end_of(
    day: str, lake: Lake, dataset: Dataset, days: Sequence[str], config: FeedbackConfig
) -> LabelCutoff:
    """The cutoff at the end of `day`; delays are estimated from the training users' exposures of `days`."""
    columns = ["user_id", "exposed_at_ms", *dataset.late_gain_times.values()]
    partitions = [lake[EXPOSURES, dataset, d] for d in days]
    with consistent_read(partitions):
        training = (rows_of_split(table, TRAIN) for table in read_tables(partitions, columns))
        return fit_cutoff_on_exposures(dataset.end_of_day_ms(day), training, dataset, config)


def maturity_of(
    exposed_at_ms_N: Ints, labels: Iterable[Sequence[str]], cutoff: LabelCutoff | None
) -> npt.NDArray[np.float32]:
    """[N, T]: the probability that all outcomes of a label that come are known at the cutoff; 1 without a cutoff.

    labels: the columns of each label. The delays of a label's late gains count as independent of each other.
    """
    labels = list(labels)
    maturity_NT = np.ones((len(exposed_at_ms_N), len(labels)))
    if cutoff is not None:
        age_s_N = (cutoff.at_ms - exposed_at_ms_N) / 1000
        for label, gains in enumerate(labels):
            for gain in gains:
                if gain in cutoff.maturity:
                    maturity_NT[:, label] *= cutoff.maturity[gain].share_known(age_s_N)
    return maturity_NT.astype(np.float32)


def estimate_delays(delay_s_N: Floats, age_s_N: Floats) -> Maturity:
    """Lynden-Bell's estimate of F from known gains: their delays and present ages in seconds, each delay < its age.

    F(t) is the product over the delays x > t of 1 - (gains with delay x) / (gains with delay <= x <= age). Delays that
    fewer than _FEWEST_AT_RISK gains are old enough to have had are left out, and F is the distribution of the others.
    """
    delays = np.sort(delay_s_N)
    ages = np.sort(age_s_N)
    x_K, count_K = np.unique(delays, return_counts=True)
    # A gain that is younger than x has a delay shorter than x, too, so one subtraction counts both conditions.
    at_risk_K = np.searchsorted(delays, x_K, side="right") - np.searchsorted(ages, x_K, side="left")
    # The check counts ages, not gains at risk: few gains are at risk near 0 only because few gains are that fast.
    is_known_K = len(ages) - np.searchsorted(ages, x_K, side="left") >= _FEWEST_AT_RISK
    x_K, count_K, at_risk_K = x_K[is_known_K], count_K[is_known_K], at_risk_K[is_known_K]
    if not len(x_K):
        return WITHOUT_DELAY
    survived_K = np.cumprod((1 - count_K / at_risk_K)[::-1])[::-1]  # product over delays >= x
    return Maturity(x_K, np.append(survived_K[1:], 1.0))


def _label_rows(windows: pa.Table, dataset: Dataset) -> pa.Table:
    """The label steps of windows, as rows."""
    names = ["exposed_at_ms", *dataset.late_gain_times.values()]
    steps = pa.table({name: windows.column(name).combine_chunks().flatten() for name in names})
    return steps.filter(windows.column("is_label").combine_chunks().flatten().fill_null(False))
