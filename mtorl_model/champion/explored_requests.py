"""The table `fusion_exposures` of a day: the actions from which a method of fusion learns the day.

Shapes: N explored actions.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.code_version import code_version
from lakehouse.lake import Lake
from lakehouse.manifest import Manifest
from lakehouse.models.versions import Version
from lakehouse.rows import arrow_schema
from lakehouse.storage.scratch import work_folder
from mtorl_model.champion.registry import Registry
from mtorl_model.data.candidate_store import CandidateStore
from mtorl_model.data.fusion_columns import weight_arrays
from mtorl_model.evaluation.candidate_labels import candidates_of
from mtorl_model.evaluation.label_sources import source_of
from mtorl_model.methods.method import ExploredRequests, Method
from mtorl_model.training.candidate_sample import CandidateSample
from schemas.dataset import Dataset
from schemas.errors import Busy
from schemas.splits import TEST, VALIDATION
from schemas.tables import FUSION_EXPOSURES
from schemas.tables.candidates.fusion_exposures import REWARDS, fusion_exposures


def publish_explored(
    registry: Registry, day: str, behaviour: Version, model: Method, sample: CandidateSample
) -> Manifest:
    """Publish the table, unless the same model has explored the same sample.

    It has the actions that the day's step learns from, and those of users on whom nothing is trained: the value of a
    policy is estimated from the latter. Raises Busy if the day was published again after the sample was drawn.
    """
    lake, dataset = registry.lake, registry.dataset
    partition = lake[FUSION_EXPOSURES, dataset, day]
    inputs = {"model": behaviour.name, **sample.inputs}
    if (published := partition.manifest) is not None and published.is_fresh(inputs):
        return published
    held_out = _held_out_sample(lake, dataset, day, model, sample)
    pairs: Iterable[Any] = zip(model.explored(sample), model.explored(held_out), strict=True)
    explored = ExploredRequests(*(np.concatenate(pair) for pair in pairs))
    rows = explored_table(explored, dataset, model.half_width, behaviour.name, day)
    with work_folder() as staged:
        pq.write_table(rows, staged / "part-0.parquet", write_page_checksum=True)
        return partition.publish(staged, inputs=inputs, code=code_version("mtorl_model"))


def _held_out_sample(lake: Lake, dataset: Dataset, day: str, model: Method, sample: CandidateSample) -> CandidateSample:
    """The sample with the exposures of validation and test users on the same days."""
    replayed = sample.replayed_days if dataset.late_gains else ()  # else the day's own outcomes are final

    def read(*days: str) -> CandidateStore:
        stores = (candidates_of(lake, dataset, model, list(days), sample.cutoff, split) for split in (VALIDATION, TEST))
        return CandidateStore.concatenate(list(stores))

    new, replay = read(day), read(*replayed) if replayed else sample.replay.take(np.arange(0))
    if not source_of(model).fingerprints(lake, dataset, [day, *replayed]).items() <= sample.inputs.items():
        raise Busy(f"a day of the sample of {day} has been published again: run the day again")
    return sample._replace(new=new, replay=replay)


def explored_table(explored: ExploredRequests, dataset: Dataset, half_width: float, version: str, day: str) -> pa.Table:
    """The rows of the table, by request and draw."""
    rows = len(explored.request_N)
    columns = {"request_id": pa.array(explored.request_N), "draw": pa.array(explored.draw_N, pa.int32())}
    columns |= weight_arrays(
        dataset, explored.power_NI, explored.bias_NI, explored.behaviour_power_NI, explored.behaviour_bias_NI,
        half_width=half_width,
    )  # fmt: skip
    columns["propensity"] = pa.array(explored.propensity_N)
    columns |= {name: pa.array(np.ascontiguousarray(explored.reward_NQ[:, q])) for q, name in enumerate(REWARDS)}
    columns["behaviour"] = pa.array([version] * rows, pa.string())
    columns["day"] = pa.array([day] * rows, pa.string())
    table = pa.table(columns, arrow_schema(fusion_exposures(dataset)))
    return table.sort_by([("request_id", "ascending"), ("draw", "ascending")])
