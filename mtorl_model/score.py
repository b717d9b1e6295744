"""Score all users of a day: the channel policy and the reward rank of each, from their journeys.

python -m mtorl_model.score --dataset D --lake DIR --day YYYY-MM-DD [--method mtorl,rmtl] [--basis gate]
    [--exploration 0] [--embeddings off]

Settings that are not given have their standing values: MTORL_BASIS_<DATASET>, MTORL_EXPLORATION_<DATASET> and
MTORL_EMBEDDINGS_<DATASET>. They apply to methods that publish channel policies.

Each method publishes the tables that it names (Method.publishes) with its own champion: policies, ranks and the channel
level, or the table of a method on candidates (Method.score_rows). If several methods have the same tables, the first
one scores.
"""

import argparse
import os
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.arguments import day_parser
from lakehouse.code_version import code_version
from lakehouse.journeys import journey_partitions, read_journeys
from lakehouse.lake import Lake
from lakehouse.manifest import Manifest
from lakehouse.reading import ROWS_PER_READ, consistent_read
from lakehouse.rows import arrow_schema
from lakehouse.storage.delta_table import Replaced
from lakehouse.storage.scratch import work_folder
from mtorl_model.arguments import add_methods, for_each, methods_of
from mtorl_model.champion.registry import Registry
from mtorl_model.data.windows.next_steps import journey_columns
from mtorl_model.inference.candidate_scoring import publish_scores_of_candidates
from mtorl_model.inference.exploration import Recommendation
from mtorl_model.inference.prediction_cache import (
    CACHE,
    PredictionFile,
    cached_predictions,
    identity,
    record_type,
    replace_cache,
)
from mtorl_model.inference.scoring import allocation_table, policies_tables, ranks_tables, score_journeys
from mtorl_model.inference.user_embeddings import publish_embeddings
from mtorl_model.methods import METHODS
from mtorl_model.methods.common.recommendation import possible_bases
from mtorl_model.methods.method import CANDIDATES, WINDOWS, Method
from schemas.basis import BASES, BY_GATE
from schemas.contract import Table
from schemas.dataset import Dataset, get_dataset
from schemas.days import checked_day
from schemas.errors import Busy, UserError, exit_with_one_line
from schemas.tables import (
    CHANNEL_POLICIES,
    JOURNEYS,
    channel_allocation,
    channel_policies,
    user_reward_ranks,
)
from schemas.tables.channel_policies import INITIAL, RECOMMENDATION
from schemas.tables.registry import SCORE_TABLES

_ON, _OFF = _SWITCH = ("on", "off")


def score_day(
    registry: Registry,
    day: str,
    *,
    basis: str = BY_GATE,
    exploration: float = 0.0,
    rows_per_read: int = ROWS_PER_READ,
) -> tuple[Manifest, ...]:
    """Publish `channel_policies`, `user_reward_ranks` and `channel_allocation` of a day, with the champion model.

    basis: of the recommended channels (schemas/basis.py); BY_GATE: as decided for the champion on validation users.
    exploration: the share of users whose channel is drawn (inference/exploration.py).

    All of them are published, or none of them. Raises Busy if the journeys are published again during the scoring.

    The tables of a day have the scores of one model, whose version is in every row; scoring with another method
    replaces them. If the scores were made from the present journeys by a model of this method, they are left unchanged;
    on the newest day only if that model is the present champion and channels are chosen in the same way. So a new
    champion does not change earlier days. Raises UserError if the day's journeys or the champion are missing, or a
    prediction is not finite.
    """
    lake, dataset = registry.lake, registry.dataset
    journey_partitions(lake, dataset, day)  # raises UserError if one is missing
    inputs = lake[CHANNEL_POLICIES, dataset, day].current_inputs()
    issued = [lake[table, dataset, day].manifest for table in SCORE_TABLES]
    newest = lake.days(JOURNEYS, dataset)[-1] == day
    made_by = _one_model(issued, inputs)
    if not newest and made_by and made_by.startswith(f"{registry.model}/"):
        return _unchanged(issued, dataset, day)
    version, model = registry.load_champion()
    recommendation = Recommendation(registry.basis_of(version).basis if basis == BY_GATE else basis, exploration)
    is_same = all(manifest and manifest.inputs.get(RECOMMENDATION) == str(recommendation) for manifest in issued)
    if made_by == version and is_same:
        return _unchanged(issued, dataset, day)
    if basis not in (BY_GATE, *possible_bases(model)):
        raise UserError(f"--basis {basis}: {version} allows only {', '.join(possible_bases(model))}")
    return _publish_scores(lake, dataset, day, version, model, recommendation, rows_per_read)


def _one_model(issued: Sequence[Manifest | None], inputs: Mapping[str, str]) -> str | None:
    """The version that made all tables from these inputs; None if there is no such version."""
    manifests = [manifest for manifest in issued if manifest is not None]
    if len(manifests) < len(SCORE_TABLES):
        return None
    made_by = manifests[0].inputs.get("model", "")
    made_from = {**inputs, "model": made_by}
    if RECOMMENDATION in manifests[0].inputs:  # earlier versions did not write it
        made_from[RECOMMENDATION] = manifests[0].inputs[RECOMMENDATION]
    return made_by if all(manifest.inputs == made_from for manifest in manifests) else None


def _unchanged(issued: Sequence[Manifest | None], dataset: Dataset, day: str) -> tuple[Manifest, ...]:
    print(f"{', '.join(SCORE_TABLES)} of {dataset.name} {day}: fresh, not scored again")
    return tuple(manifest for manifest in issued if manifest is not None)


def _publish_scores(
    lake: Lake,
    dataset: Dataset,
    day: str,
    version: str,
    model: Method,
    recommendation: Recommendation,
    rows_per_read: int,
) -> tuple[Manifest, ...]:
    replaces = {table: lake[table, dataset, day].data_files() for table in SCORE_TABLES}
    tables = read_journeys(lake, dataset, day, journey_columns(model.spec, dataset), rows_per_read)
    with work_folder() as staging, ExitStack() as open_files:
        staged = staging / CACHE
        predictions = PredictionFile.create(staged, identity(model), record_type(model))
        open_files.callback(predictions.close)
        cached = open_files.enter_context(cached_predictions(lake, model, dataset))
        with consistent_read(journey_partitions(lake, dataset, day)):
            inputs = lake[CHANNEL_POLICIES, dataset, day].current_inputs()
            scores = score_journeys(tables, model, dataset, predictions, cached)
        if not all(np.isfinite(part[head]).all() for part in predictions.chunks() for head in model.predicts):
            raise UserError(
                f"model {version} predicts no finite numbers for the journeys of {day}: train it again (make run)"
            )
        contents: list[tuple[Table, Iterable[pa.Table]]] = [
            (
                channel_policies.channel_policies(dataset),
                policies_tables(scores, model, dataset, version, day, recommendation),
            ),
            (user_reward_ranks.user_reward_ranks(dataset), ranks_tables(scores, model, dataset, version, day)),
            (channel_allocation.channel_allocation(dataset), [allocation_table(scores, model, dataset, version)]),
        ]
        # All are written before the first is published, so that no failure can come between the publications.
        for table, content in contents:
            _write(staging / table.name, table, content)
        try:
            published = tuple(
                lake[table, dataset, day].publish(
                    staging / table,
                    inputs={**inputs, "model": version, RECOMMENDATION: str(recommendation)},
                    code=code_version("mtorl_model"),
                    spec_version=model.spec.version,
                    counts={INITIAL: int((~scores.long_U).sum())},
                    replaces=replaces[table],
                )
                for table in SCORE_TABLES
            )
        except Replaced as error:
            raise Busy(f"another run has scored {dataset.name} on {day} in the meantime: run again") from error
        replace_cache(lake, dataset, predictions, staged)
    print(f"{scores.reused} of {len(scores.user_id)} predictions reused from the last scoring")
    return published


def _write(folder: Path, table: Table, content: Iterable[pa.Table]) -> int:
    """Write a partition's only file, one row group at a time; returns the number of rows."""
    folder.mkdir()
    rows = 0
    with pq.ParquetWriter(folder / "part-0.parquet", arrow_schema(table), write_page_checksum=True) as writer:
        for part in content:
            writer.write_table(part)
            rows += len(part)
    return rows


@dataclass(frozen=True, slots=True)
class Settings:
    """How users are scored. embeddings: whether `user_embeddings` is published, too."""

    basis: str
    exploration: float
    embeddings: bool


def settings_of(args: argparse.Namespace, dataset: Dataset) -> Settings:
    """The given settings, and the standing ones in place of those that are not given.

    Raises UserError if a standing value is not possible; the message names its environment variable.
    """
    return Settings(
        args.basis or _standing(dataset, "BASIS", BY_GATE, (BY_GATE, *BASES)),
        _standing_share(dataset) if args.exploration is None else args.exploration,
        (args.embeddings or _standing(dataset, "EMBEDDINGS", _OFF, _SWITCH)) == _ON,
    )


def _standing(dataset: Dataset, name: str, default: str, possible: Sequence[str]) -> str:
    variable = f"MTORL_{name}_{dataset.name.upper()}"
    value = os.environ.get(variable) or default
    if value not in possible:
        raise UserError(f"{variable} is '{value}': set it to one of {', '.join(possible)}")
    return value


def _standing_share(dataset: Dataset) -> float:
    variable = f"MTORL_EXPLORATION_{dataset.name.upper()}"
    value = os.environ.get(variable) or "0"
    try:
        return float(value)
    except ValueError:
        raise UserError(f"{variable} is '{value}': set it to a share from 0 to 1") from None


def main() -> None:
    parser = day_parser(__doc__)
    add_methods(parser)
    parser.add_argument(
        "--basis", choices=(BY_GATE, *BASES), help="of the recommended channels; gate: decided on validation users"
    )  # fmt: skip
    parser.add_argument(
        "--exploration", type=float, metavar="SHARE", help="share of the users whose channel is drawn at random"
    )
    parser.add_argument("--embeddings", choices=_SWITCH, help="publish user_embeddings, too")
    args = parser.parse_args()
    lake, dataset, day = Lake(args.lake), get_dataset(args.dataset), checked_day(args.day)
    scoring: dict[tuple[str, ...], str] = {}
    for method in methods_of(args):
        tables = METHODS[method].publishes
        if scoring.setdefault(tables, method) != method:
            print(f"{method}: not scored, because {scoring[tables]} publishes the same tables")
    if CHANNEL_POLICIES not in {table for tables in scoring for table in tables} and (
        args.basis or args.embeddings or args.exploration is not None
    ):
        names = ", ".join(scoring.values())
        raise UserError(f"--method {names} recommends no channel: leave out --basis, --exploration and --embeddings")
    for_each(
        list(scoring.values()),
        lambda method: _SCORING[METHODS[method].reads](Registry(lake, dataset, method), day, args),
    )


def _score_windows(registry: Registry, day: str, args: argparse.Namespace) -> None:
    lake, dataset = registry.lake, registry.dataset
    chosen = settings_of(args, dataset)
    policies, *ranks_and_level = score_day(registry, day, basis=chosen.basis, exploration=chosen.exploration)
    print(
        f"{policies.rows} users scored by {policies.inputs['model']}, {policies.counts[INITIAL]} with a short journey"
    )
    print(f"channels are recommended by {policies.inputs[RECOMMENDATION]}")
    champion = registry.champion()
    if champion.name == policies.inputs["model"] and champion.day > day:
        print(f"note: {champion.name} was trained through {champion.day}: these policies are not a forecast for {day}")
    published = [policies, *ranks_and_level]
    if chosen.embeddings:
        version = policies.inputs["model"]
        published.append(
            publish_embeddings(lake, dataset, day, version, lambda: registry.load(registry.named_version(version)))
        )
    for manifest in published:
        print(lake[manifest.table, dataset, day].path)


def _score_candidates(registry: Registry, day: str, args: argparse.Namespace) -> None:
    """Publish the table of a method on candidates; policies and ranks of other methods do not change."""
    method = METHODS[registry.method]
    (table,) = method.publishes
    make_table = pkgutil.resolve_name(method.score_rows)
    manifest = publish_scores_of_candidates(
        registry.lake, registry.dataset, table, day, registry.model, registry.load_champion, make_table
    )
    print(f"{manifest.rows} users scored by {manifest.inputs['model']}")
    print(registry.lake[manifest.table, registry.dataset, day].path)


_SCORING: Mapping[str, Callable[..., None]] = {WINDOWS: _score_windows, CANDIDATES: _score_candidates}


if __name__ == "__main__":
    exit_with_one_line(main)
