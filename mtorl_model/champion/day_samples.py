"""The sample that a method learns a day from, by the kind of input that it reads (Method.reads)."""

from collections.abc import Callable, Mapping

from lakehouse.lake import Lake
from mtorl_model.data.candidates.encoding import CandidateEncoder
from mtorl_model.data.delayed_feedback import FeedbackConfig
from mtorl_model.evaluation.label_sources import source_of
from mtorl_model.methods.method import CANDIDATES, WINDOWS, Method
from mtorl_model.training.candidate_sample import CandidateSample, draw_candidates
from mtorl_model.training.config import FineTuneConfig
from mtorl_model.training.day_sample import DaySample, draw_day
from schemas.dataset import Dataset
from schemas.days import day_before, day_plus

Sample = DaySample | CandidateSample


def draw_sample(
    lake: Lake, dataset: Dataset, model: Method, day: str, config: FineTuneConfig, feedback: FeedbackConfig
) -> Sample:
    """The sample of a day, with labels as known at its end.

    Raises UserError if the day's tables are missing or the model cannot read them, and Busy if another run publishes
    one of the days at the same time.
    """
    return _DRAW[model.reads](lake, dataset, model, day, config, feedback)


def _draw_windows(
    lake: Lake, dataset: Dataset, model: Method, day: str, config: FineTuneConfig, feedback: FeedbackConfig
) -> DaySample:
    return draw_day(lake, model.encoder(dataset), dataset, day, config, feedback, with_latest=model.fits_latest)


def _draw_candidates(
    lake: Lake, dataset: Dataset, model: Method, day: str, config: FineTuneConfig, feedback: FeedbackConfig
) -> CandidateSample:
    source, encoder = source_of(model), CandidateEncoder.from_json(model.encoding)
    source.can_read(lake, dataset, model, day)  # raises UserError if the day is missing
    days_before = source.days(lake, dataset, model, None, day_before(day))
    delays_from = [d for d in days_before if d >= day_plus(day, -dataset.outcome_days)]
    cutoff = source.cutoff(lake, dataset, day, [*delays_from, day], feedback)
    return draw_candidates(lake, encoder, dataset, day, days_before, config, cutoff, with_latest=model.fits_latest)


_DRAW: Mapping[str, Callable[..., Sample]] = {WINDOWS: _draw_windows, CANDIDATES: _draw_candidates}
