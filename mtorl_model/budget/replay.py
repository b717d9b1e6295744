"""A log of random exposures as an environment: an offer that names the logged channel counts, others are skipped.

Where all channels are drawn alike, the matched offers are a fair sample of what the strategy would have met (Li, Chu,
Langford, Wang: Unbiased offline evaluation of contextual-bandit-based news article recommendation algorithms, 2011).
Where they are not, an exposure that was drawn with propensity q is accepted with the chance min(q) / q, so that every
offer is matched with the same chance, whatever it names and whenever it is made. Round k is each user's k-th random
exposure, at its own time; of exposures at one time the first counts. An outcome enters the journey only where it was
matched; that is the price of replay: the log's users went on as the log says.

Every exposure costs 1: such logs have no costs, and the budget is a number of exposures. In the journeys it costs
nothing, as in the log that the model has learned from.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from lakehouse.lake import Lake
from mtorl_model.budget.environment import Moment, Outcome
from mtorl_model.data.money import NANO, Ints
from schemas.contract import Known
from schemas.dataset import Dataset
from schemas.days import days_between
from schemas.errors import UserError
from schemas.splits import split_of
from schemas.steps import known_after_columns, profile_inputs
from schemas.tables import EXPOSURES


class Replay:
    """The random exposures of a split's users from one day to another; what came before is their past."""

    def __init__(
        self, lake: Lake, dataset: Dataset, channels: tuple[str, ...], first_day: str, last_day: str, split: str
    ) -> None:
        """channels: of the feature spec. Raises UserError where the lake has no random exposure of such users."""
        if dataset.late_gains:
            raise UserError(f"{dataset.name} has gains that come late: a replay cannot tell when; use another dataset")
        self._dataset = dataset
        span = set(days_between(first_day, last_day))
        published = lake.days(EXPOSURES, dataset)
        log_days, past_days = [d for d in published if d in span], [d for d in published if d < first_day]
        log, past = (_read(lake, dataset, days, split) for days in (log_days, past_days))
        read = lake.fingerprints(EXPOSURES, dataset, [*past_days, *log_days])
        self.fingerprint = hashlib.sha256(repr((sorted(read.items()), channels, first_day, split)).encode()).hexdigest()
        log = log.filter(pc.greater(log.column("propensity"), 0.0)) if len(log) else log  # null: not drawn at random
        log = log.filter(pc.is_in(log.column("channel"), value_set=pa.array(channels))) if len(log) else log
        if not len(log):
            raise UserError(
                f"no random exposures of {split} users of {dataset.name} from {first_day} to {last_day} in "
                f"{lake.root}: choose other days, or a log with propensities"
            )
        self.users = pc.unique(log.column("user_id")).sort()
        self._log, self._past = (_Waves(table, self.users, channels) for table in (log, past))
        self._accepted = accept(self._log.all("propensity"), np.random.default_rng(0))
        first = log.take(pa.array(self._log.rows_of(0)[1]))
        self.profile: Mapping[str, pa.Array] = {
            c.name: first.column(c.name).combine_chunks() for c in profile_inputs(dataset)
        }
        self.bid_nano_A: Ints = np.full(len(channels), NANO, dtype=np.int64)

    @property
    def rounds(self) -> int:
        """The most random exposures of one user, the exploration's left out."""
        return self._log.waves - 1

    def reset(self, campaign: str) -> Iterator[tuple[Moment, Outcome]]:
        for wave in range(self._past.waves):
            user_N, row_N = self._past.rows_of(wave)
            moment = Moment(user_N, self._past.at_ms[row_N], self._context(self._past, row_N))
            shown_N = np.ones(len(user_N), np.bool_)
            yield moment, self._outcome(self._past, user_N, row_N, self._past.channel[row_N], shown_N, past=True)

    def moment(self, round_number: int) -> Moment:
        user_N, row_N = self._log.rows_of(round_number)
        return Moment(user_N, self._log.at_ms[row_N], self._context(self._log, row_N))

    def step(self, round_number: int, user_N: Ints, channel_N: Ints, bid_nano_N: Ints) -> Outcome:
        users, rows = self._log.rows_of(round_number)
        row_N = rows[np.searchsorted(users, user_N)]
        shown_N = (self._log.channel[row_N] == channel_N) & self._accepted[row_N] & (bid_nano_N >= NANO)
        return self._outcome(self._log, user_N, row_N, channel_N, shown_N)

    def recover(self, round_number: int, outcome: Outcome) -> None:
        """A log does not change."""

    def _context(self, waves: "_Waves", row_N: Ints) -> dict[str, pa.Array]:
        return {c.name: waves.values(c.name, row_N) for c in self._dataset.features(Known.BEFORE)}

    def _outcome(
        self, waves: "_Waves", user_N: Ints, row_N: Ints, channel_N: Ints, shown_N: Any, *, past: bool = False
    ) -> Outcome:
        gains_NG = np.stack([waves.values(g, row_N).to_numpy() for g in self._dataset.gain_names], axis=1)
        told = [
            c.name for c in known_after_columns(self._dataset) if c.name != "cost" and (past or c.name != "channel")
        ]
        return Outcome(
            user_N,
            waves.at_ms[row_N],
            channel_N,
            shown_N,
            gains_NG.astype(np.int64) * shown_N[:, None],
            np.where(shown_N, 0 if past else NANO, 0).astype(np.int64),
            {name: waves.values(name, row_N).to_pylist() for name in told},
        )


def accept(propensity_N: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Which exposures to keep, so that draw and acceptance together have one chance: that of the rarest draw."""
    accepted_N: npt.NDArray[np.bool_] = rng.random(len(propensity_N)) * propensity_N < propensity_N.min(initial=1.0)
    return accepted_N


class _Waves:
    """Exposures of users, sorted by user and time; wave k holds the k-th of each user that has so many.

    Of exposures at one time the first counts.
    """

    def __init__(self, table: pa.Table, users: pa.Array, channels: tuple[str, ...]) -> None:
        if len(table):
            table = table.append_column("_user", pc.index_in(table.column("user_id"), value_set=users))
            table = table.filter(pc.is_valid(table.column("_user")))
            order = [(name, "ascending") for name in ("_user", "exposed_at_ms", "exposure_id")]
            table = table.take(pc.sort_indices(table, sort_keys=order))
        self._table = table.combine_chunks()
        user = np.asarray(table.column("_user") if len(table) else [], dtype=np.int64)
        self.at_ms: Ints = np.asarray(table.column("exposed_at_ms") if len(table) else [], dtype=np.int64)
        names = table.column("channel") if len(table) else pa.chunked_array([], pa.string())
        self.channel: Ints = (
            pc.fill_null(pc.index_in(names, value_set=pa.array(channels)), -1).to_numpy().astype(np.int64)
        )
        fresh = np.ones(len(user), np.bool_)
        fresh[1:] = (user[1:] != user[:-1]) | (self.at_ms[1:] != self.at_ms[:-1])
        row = np.flatnonzero(fresh)
        user = user[row]
        start = np.searchsorted(user, np.arange(len(users)))
        place = np.arange(len(row)) - start[user]
        self._user, self._row, self._place = user, row, place
        self.waves = int(place.max(initial=-1)) + 1

    def rows_of(self, wave: int) -> tuple[Ints, Ints]:
        """Users ascending, and the row of each."""
        here = np.flatnonzero(self._place == wave)
        return self._user[here], self._row[here]

    def all(self, name: str) -> npt.NDArray[np.float64]:
        """A column of numbers, of all rows."""
        return np.asarray(self._table.column(name), dtype=np.float64)

    def values(self, name: str, row_N: Ints) -> pa.Array:
        values = self._table.column(name).combine_chunks()
        return values.take(pa.array(row_N))


def _read(lake: Lake, dataset: Dataset, days: list[str], split: str) -> pa.Table:
    """The exposures of those days, of the split's users."""
    names = [
        "user_id", "exposure_id", "exposed_at_ms", "channel", "propensity", *dataset.gain_names,
        *(c.name for c in known_after_columns(dataset) if c.name not in ("channel", "cost")),
        *(c.name for c in dataset.features(Known.BEFORE)), *(c.name for c in profile_inputs(dataset)),
    ]  # fmt: skip
    found = []
    for day in days:  # one at a time: nine tenths of the users are of other splits
        lake[EXPOSURES, dataset, day].require()
        files = [str(f) for f in sorted(lake[EXPOSURES, dataset, day].path.glob("*.parquet"))]
        table = pads.dataset(files, format="parquet").to_table(columns=names)
        users = pc.unique(table.column("user_id"))
        chosen = pa.array([user for user in users.to_pylist() if split_of(user) == split], users.type)
        found.append(table.filter(pc.is_in(table.column("user_id"), value_set=chosen)))
    return pa.concat_tables(found) if found else pa.table({})
