"""The truth behind a generated log, which no real log has: the probabilities of every channel at every row.

The table has one row for each row of the log and these columns, for the channels c of the world:

    row                    0-based number of the row in the log file, in the order of both files
    <user>, <time>         the log's own user and time columns
    channel                the channel shown; null if a reader of the log cannot know it
    click_<c>, <gain>_<c>  probability of that outcome at that moment, had c been shown
    click_shown, <gain>_shown   the same for the channel shown
    propensity_<c>         probability that the logging policy shows c; these sum to 1

KuaiRand: <gain> is long_view, and propensity_unknown is the probability of a video without a duration.
Criteo: <gain> is conversion, the probability that this exposure causes a conversion, and `sets_off` is 1 if it did. The
flag in the log differs: it also marks the other clicks of the path, and is missing if the conversion happens after the
end of the log.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.generator.behaviour import BehaviourModel
from jobs.generator.journeys import Journeys


def truth_columns(
    model: BehaviourModel,
    journeys: Journeys,
    gain: str,
    propensities: Sequence[str],
    propensity_RC: NDArray[np.float32],
    is_known_R: NDArray[np.bool_],
) -> Mapping[str, Any]:
    """All columns except `row`, user and time. propensities: the names of the columns of propensity_RC."""
    channel_R1 = journeys.channel_R[:, None]
    columns: dict[str, Any] = {"channel": pa.array(model.channels).take(pa.array(journeys.channel_R, mask=~is_known_R))}
    for outcome, chance_RC in (("click", journeys.click_chance_RC), (gain, journeys.conversion_chance_RC)):
        columns |= {f"{outcome}_{c}": chance_RC[:, i] for i, c in enumerate(model.channels)}
        columns[f"{outcome}_shown"] = np.take_along_axis(chance_RC, channel_R1, axis=1)[:, 0]
    return columns | {f"propensity_{c}": propensity_RC[:, i] for i, c in enumerate(propensities)}
