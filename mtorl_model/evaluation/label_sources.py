"""Where the labels of a day come from, by the kind of input that a method reads: source_of(method).

The daily test, the gate and the comparison of models ask a source, so that none of them depends on the kind of input.
"""

from abc import ABC, abstractmethod
from collections.abc import Container, Iterable, Mapping, Sequence

from lakehouse.lake import Lake, Partition, fingerprints_of
from lakehouse.reading import consistent_read
from lakehouse.storage.data_files import part_of
from mtorl_model.data.candidates.reading import partitions_of
from mtorl_model.data.delayed_feedback import FeedbackConfig, LabelCutoff, cutoff_at_end_of
from mtorl_model.data.windows.reading import partitions_read
from mtorl_model.data.windows.splits import days_with_windows, split_windows
from mtorl_model.evaluation.candidate_labels import candidates_of, predict_candidates
from mtorl_model.evaluation.label_predictions import LabelPredictions, labels_of_each
from mtorl_model.methods.method import CANDIDATES, WINDOWS, Method
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.tables import SEQUENCES, STEPS

_ROWS_PER_WINDOW = 5  # exposures that cost about as much to predict as a window


class LabelSource(ABC):
    """The labels of one kind of input. Days are published days of a dataset in a lake."""

    @abstractmethod
    def can_read(self, lake: Lake, dataset: Dataset, model: Method, day: str) -> bool:
        """Whether the model can read the day. Raises UserError if the day is not published or failed its audit."""

    @abstractmethod
    def can_compare(self, base: Method, candidate: Method) -> bool:
        """Whether both models can read the same days."""

    @abstractmethod
    def days(self, lake: Lake, dataset: Dataset, model: Method, first: str | None, last: str | None) -> list[str]:
        """The days from first to last (None: no limit) that the model can read.

        Prints a line for each other day.
        """

    @abstractmethod
    def partitions(self, lake: Lake, dataset: Dataset, day: str) -> Sequence[Partition]:
        """The partitions that the labels of a day are read from."""

    @abstractmethod
    def windows(self, lake: Lake, dataset: Dataset, day: str) -> float:
        """The size of a day, in windows."""

    @abstractmethod
    def cutoff(self, lake: Lake, dataset: Dataset, day: str, days: list[str], feedback: FeedbackConfig) -> LabelCutoff:
        """The cutoff at the end of `day`; delays are estimated from the training users' labels of `days`."""

    @abstractmethod
    def read(
        self,
        lake: Lake,
        dataset: Dataset,
        models: Sequence[Method],
        days: Sequence[str],
        split: str,
        cutoff: LabelCutoff | None,
        *,
        with_features: bool = False,
        parts: Container[str] | None = None,
    ) -> list[LabelPredictions] | None:
        """The predictions of each model for the split's labels of these days, in the same order; None without labels.

        cutoff: as in predict_labels. with_features: those of the first model. parts: of self.parts; None: all. Raises
        Busy if one of the days is published again while it is read.
        """

    def parts(self, lake: Lake, dataset: Dataset, days: Sequence[str]) -> set[str]:
        """The parts of the users in the files of these days (lakehouse/storage/data_files.py)."""
        files = lake.present(STEPS, dataset, days).values()
        return {part_of(file) for day_files in files for file in day_files}

    def fingerprints(self, lake: Lake, dataset: Dataset, days: Iterable[str]) -> dict[str, str]:
        """The fingerprints of the partitions of these days, by key."""
        return fingerprints_of(partition for day in days for partition in self.partitions(lake, dataset, day))


class _WindowSource(LabelSource):
    """Label steps of windows (the table `sequences`)."""

    def can_read(self, lake: Lake, dataset: Dataset, model: Method, day: str) -> bool:
        lake[SEQUENCES, dataset, day].require()
        return True

    def can_compare(self, base: Method, candidate: Method) -> bool:
        return base.spec.version == candidate.spec.version

    def days(self, lake: Lake, dataset: Dataset, model: Method, first: str | None, last: str | None) -> list[str]:
        return days_with_windows(lake, dataset, first, last)

    def partitions(self, lake: Lake, dataset: Dataset, day: str) -> Sequence[Partition]:
        return partitions_read(lake, dataset, [day])

    def windows(self, lake: Lake, dataset: Dataset, day: str) -> float:
        return lake[SEQUENCES, dataset, day].require().rows

    def cutoff(self, lake: Lake, dataset: Dataset, day: str, days: list[str], feedback: FeedbackConfig) -> LabelCutoff:
        return cutoff_at_end_of(day, lake, dataset, days, feedback)

    def read(
        self,
        lake: Lake,
        dataset: Dataset,
        models: Sequence[Method],
        days: Sequence[str],
        split: str,
        cutoff: LabelCutoff | None,
        *,
        with_features: bool = False,
        parts: Container[str] | None = None,
    ) -> list[LabelPredictions] | None:
        encoder = models[0].encoder(dataset)
        with consistent_read(partitions_read(lake, dataset, days)):
            tables = split_windows(lake, dataset, days, split, encoder, with_times=cutoff is not None, parts=parts)
            return labels_of_each(models, tables, dataset, cutoff, with_features=with_features)


class _CandidateSource(LabelSource):
    """Exposures as candidates; each is a label. A model has its own encoder, so any two can be compared."""

    def can_read(self, lake: Lake, dataset: Dataset, model: Method, day: str) -> bool:
        for partition in partitions_of(lake, dataset, day):
            partition.require()
        return True

    def can_compare(self, base: Method, candidate: Method) -> bool:
        return True

    def days(self, lake: Lake, dataset: Dataset, model: Method, first: str | None, last: str | None) -> list[str]:
        usable = []
        for day in (d for d in lake.days(STEPS, dataset) if (first or d) <= d <= (last or d)):
            try:
                self.can_read(lake, dataset, model, day)
                usable.append(day)
            except UserError as reason:  # a broken day in the past must not stop the work of this day
                print(f"left out: {reason}")
        return usable

    def partitions(self, lake: Lake, dataset: Dataset, day: str) -> Sequence[Partition]:
        return partitions_of(lake, dataset, day)

    def windows(self, lake: Lake, dataset: Dataset, day: str) -> float:
        return lake[STEPS, dataset, day].require().rows / _ROWS_PER_WINDOW

    def cutoff(self, lake: Lake, dataset: Dataset, day: str, days: list[str], feedback: FeedbackConfig) -> LabelCutoff:
        return cutoff_at_end_of(day, lake, dataset, days, feedback)

    def read(
        self,
        lake: Lake,
        dataset: Dataset,
        models: Sequence[Method],
        days: Sequence[str],
        split: str,
        cutoff: LabelCutoff | None,
        *,
        with_features: bool = False,
        parts: Container[str] | None = None,
    ) -> list[LabelPredictions] | None:
        labels = []
        with consistent_read(p for day in days for p in partitions_of(lake, dataset, day)):
            for number, model in enumerate(models):
                store = candidates_of(lake, dataset, model, list(days), cutoff, split, parts)
                if not len(store):
                    return None
                labels.append(predict_candidates(model, store, with_features=with_features and number == 0))
        return labels


_SOURCES: Mapping[str, LabelSource] = {WINDOWS: _WindowSource(), CANDIDATES: _CandidateSource()}


def source_of(method: Method | type[Method]) -> LabelSource:
    """The source for a method."""
    return _SOURCES[method.reads]
