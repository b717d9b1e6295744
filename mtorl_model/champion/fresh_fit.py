"""A quick fit of trees on the latest days: an estimate of the loss that a full training today would reach.

The champion is due for a full training if a head is clearly worse than these trees on validation users. They are the
method `boosting` with the same inputs as the champion, fitted on a limited number of windows of training users. Neither
the trees nor the champion have learned from the validation users.

N labels, F features.
"""

import hashlib
from collections.abc import Callable, Container, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lakehouse.lake import Lake
from lakehouse.reading import consistent_read
from mtorl_model.data.delayed_feedback import LabelCutoff
from mtorl_model.data.encoding import Encoder
from mtorl_model.data.windows.reading import draw_windows
from mtorl_model.data.windows.store import WindowsInMemory
from mtorl_model.evaluation.candidate_labels import boosting_on_candidates, candidates_of
from mtorl_model.evaluation.comparison import Difference, differences
from mtorl_model.evaluation.label_sources import source_of
from mtorl_model.evaluation.panel import panel
from mtorl_model.methods.method import CANDIDATES, WINDOWS, Method, Run
from schemas.dataset import Dataset
from schemas.splits import TRAIN, VALIDATION
from schemas.tables import SEQUENCES

if TYPE_CHECKING:
    from mtorl_model.methods.baselines.boosting import Boosting


def compare_with_fresh_fit(
    lake: Lake, dataset: Dataset, model: Method, days: Sequence[str], cutoff: LabelCutoff, windows: int, labels: int,
    parts: Container[str] | None = None,
) -> list[Difference]:  # fmt: skip
    """The difference of each head, model - trees, on the validation users of the days; [] without labels.

    parts: of the users, see LabelSource.read. windows, labels: the trees are fitted on at most as many. Raises Busy if
    one of the days is published again during the comparison.
    """
    source = source_of(model)
    with consistent_read(partition for day in days for partition in source.partitions(lake, dataset, day)):
        trees = _FIT[model.reads](lake, dataset, model, days, cutoff, windows, labels)
        predictions = source.read(lake, dataset, [model], days, VALIDATION, cutoff, with_features=True, parts=parts)
    if trees is None or predictions is None:
        return []
    fresh = predictions[0]._replace(prediction=trees.predict_features(predictions[0].feature_NF))
    return differences(fresh, predictions[0], trees, model)


def _fit_on_windows(
    lake: Lake, dataset: Dataset, model: Method, days: Sequence[str], cutoff: LabelCutoff, windows: int, labels: int
) -> "Boosting | None":
    from mtorl_model.methods.baselines.boosting import Boosting  # imports sklearn, which a usual day does not need

    train = _training_windows(lake, dataset, model.encoder(dataset), days, cutoff, windows)
    if not train.windows.label_NL.any():
        return None
    config = Boosting.Config().changed({"most_labels": labels})
    return Boosting(config, model.spec, model.initial_policy).fit(train, train, Run())


def _fit_on_candidates(
    lake: Lake, dataset: Dataset, model: Method, days: Sequence[str], cutoff: LabelCutoff, windows: int, labels: int
) -> "Boosting | None":
    parts = panel(lake, dataset, model, days, TRAIN, windows)
    train = candidates_of(lake, dataset, model, list(days), cutoff, TRAIN, parts)
    return boosting_on_candidates(model, train, labels) if len(train) else None


_FIT: Mapping[str, Callable[..., "Boosting | None"]] = {WINDOWS: _fit_on_windows, CANDIDATES: _fit_on_candidates}


def _training_windows(
    lake: Lake, dataset: Dataset, encoder: Encoder, days: Sequence[str], cutoff: LabelCutoff, windows: int
) -> WindowsInMemory:
    """Random windows of training users, from each day the same number; the same for the same days and lake."""
    rng = np.random.default_rng(list(hashlib.sha256(f"{dataset.name} {days[-1]} fresh fit".encode()).digest()))
    columns = list(dict.fromkeys((*encoder.columns, *encoder.time_columns)))
    per_day = -(-windows // len(days))
    published = [day for day in lake.days(SEQUENCES, dataset) if day in set(days)]
    drawn = draw_windows(lake, dataset, dict.fromkeys(published, per_day), columns, encoder.spec.channels, rng)
    return WindowsInMemory(encoder.encode(drawn, cutoff))
