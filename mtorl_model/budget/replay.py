"""A log of random exposures as an environment: an offer counts only if it names the logged channel.

If all channels are drawn with the same probability, the matched offers are an unbiased sample of the outcomes that the
strategy would have had (Li, Chu, Langford, Wang: Unbiased offline evaluation of contextual-bandit-based news article
recommendation algorithms, 2011). Otherwise an exposure that was drawn with propensity q is accepted with probability
min(q) / q, so that every offer is matched with the same probability, whatever its channel and time.

Round k is each user's k-th random exposure, at its time in the log; of exposures with equal times the first counts. An
outcome enters the journey only if the offer was matched. This is a limit of replay: in the log,
the users continued with the logged exposures.

Every exposure costs 1: such logs have no costs, and the budget is a number of exposures. In the journeys exposures cost
nothing, as in the log from which the model has learned.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.lake import Lake
from mtorl_model.budget.click_record import NO_EXPOSURE, ClickRecord
from mtorl_model.budget.environment import Bools, Moment, Outcome
from mtorl_model.data.money import NANO, Ints
from mtorl_model.inference.channel_level import click_gain
from schemas.contract import Known
from schemas.dataset import Dataset
from schemas.days import days_between
from schemas.errors import UserError
from schemas.splits import split_of
from schemas.steps import known_after_columns, profile_inputs
from schemas.tables import EXPOSURES


class Replay:
    """The random exposures of a split's users in a range of days. The users' earlier exposures are their past."""

    def __init__(
        self, lake: Lake, dataset: Dataset, channels: tuple[str, ...], first_day: str, last_day: str, split: str
    ) -> None:
        """channels: of the feature spec. Raises UserError if the lake has no random exposure of such users."""
        if dataset.late_gains:
            raise UserError(
                f"{dataset.name} has gains that become known late, which a replay cannot reproduce: use another dataset"
            )
        self._dataset = dataset
        replayed = set(days_between(first_day, last_day))
        published = lake.days(EXPOSURES, dataset)
        log_days = [day for day in published if day in replayed]
        past_days = [day for day in published if day < first_day]
        log, past = (_read(lake, dataset, days, split) for days in (log_days, past_days))
        inputs = lake.fingerprints(EXPOSURES, dataset, [*past_days, *log_days])
        identity = (sorted(inputs.items()), channels, first_day, split)
        self.fingerprint = hashlib.sha256(repr(identity).encode()).hexdigest()
        if len(log):
            log = log.filter(pc.greater(log.column("propensity"), 0.0))  # null: not drawn at random
            log = log.filter(pc.is_in(log.column("channel"), value_set=pa.array(channels)))
        if not len(log):
            raise UserError(
                f"no random exposures of {split} users of {dataset.name} from {first_day} to {last_day} in "
                f"{lake.root}: choose other days, or a log with propensities"
            )
        self.users = pc.unique(log.column("user_id")).sort()
        self._log, self._past = (_Waves(table, self.users, channels) for table in (log, past))
        self._accepted = accept(self._log.floats("propensity"), np.random.default_rng(0))
        first_rows = log.take(pa.array(self._log.users_and_rows(0)[1]))
        self.profile: Mapping[str, pa.Array] = {
            c.name: first_rows.column(c.name).combine_chunks() for c in profile_inputs(dataset)
        }
        self.bid_nano_A: Ints = np.full(len(channels), NANO, dtype=np.int64)

    @property
    def rounds(self) -> int:
        """The largest number of random exposures of a user, without that of the exploration."""
        return self._log.waves - 1

    def reset(self, campaign: str) -> Iterator[tuple[Moment, Outcome]]:
        for wave in range(self._past.waves):
            user_N, row_N = self._past.users_and_rows(wave)
            moment = Moment(user_N, self._past.at_ms[row_N], self._context(self._past, row_N))
            yield moment, self._past_outcome(user_N, row_N)

    def moment(self, round_number: int) -> Moment:
        user_N, row_N = self._log.users_and_rows(round_number)
        return Moment(user_N, self._log.at_ms[row_N], self._context(self._log, row_N))

    def step(self, round_number: int, user_N: Ints, channel_N: Ints, bid_nano_N: Ints) -> Outcome:
        users, rows = self._log.users_and_rows(round_number)
        row_N = rows[np.searchsorted(users, user_N)]
        matched_N = (self._log.channel[row_N] == channel_N) & self._accepted[row_N] & (bid_nano_N >= NANO)
        return Outcome(
            user_N,
            self._log.at_ms[row_N],
            channel_N,
            matched_N,
            self._gains(self._log, row_N) * matched_N[:, None],
            np.where(matched_N, NANO, 0).astype(np.int64),
            self._attributes(self._log, row_N, leave_out=("cost", "channel")),
        )

    def recover(self, round_number: int, outcome: Outcome) -> None:
        """Ignored: a log does not change."""

    def _past_outcome(self, user_N: Ints, row_N: Ints) -> Outcome:
        return Outcome(
            user_N,
            self._past.at_ms[row_N],
            self._past.channel[row_N],
            np.ones(len(user_N), np.bool_),
            self._gains(self._past, row_N),
            np.zeros(len(user_N), np.int64),
            self._attributes(self._past, row_N, leave_out=("cost",)),  # with the names of unknown channels
        )

    def _context(self, waves: "_Waves", row_N: Ints) -> dict[str, pa.Array]:
        return {c.name: waves.values(c.name, row_N) for c in self._dataset.features(Known.BEFORE)}

    def _gains(self, waves: "_Waves", row_N: Ints) -> npt.NDArray[np.int64]:
        gains = [waves.values(name, row_N).to_numpy() for name in self._dataset.gain_names]
        return np.stack(gains, axis=1).astype(np.int64)

    def _attributes(self, waves: "_Waves", row_N: Ints, leave_out: Sequence[str]) -> dict[str, list[object]]:
        names = [c.name for c in known_after_columns(self._dataset) if c.name not in leave_out]
        return {name: waves.values(name, row_N).to_pylist() for name in names}


def record_of_log(lake: Lake, dataset: Dataset, channels: tuple[str, ...], before_day: str, split: str) -> ClickRecord:
    """The exposures and clicks of the users of a split before that day."""
    table = _read(lake, dataset, [day for day in lake.days(EXPOSURES, dataset) if day < before_day], split)
    if not len(table):
        empty_N = np.empty(0, np.int64)
        return ClickRecord.from_exposures(*[empty_N] * 4, users=0, actions=len(channels))
    table = table.sort_by([(name, "ascending") for name in ("user_id", "exposed_at_ms", "exposure_id")])
    users = pc.unique(table.column("user_id"))
    channel = pc.fill_null(pc.index_in(table.column("channel"), value_set=pa.array(channels)), NO_EXPOSURE)
    return ClickRecord.from_exposures(
        pc.index_in(table.column("user_id"), value_set=users).to_numpy().astype(np.int64),
        table.column("exposed_at_ms").to_numpy(),
        channel.to_numpy().astype(np.int64),
        table.column(dataset.gain_names[click_gain(dataset)]).to_numpy().astype(np.int64),
        users=len(users),
        actions=len(channels),
    )


def accept(propensity_N: npt.NDArray[np.float64], rng: np.random.Generator) -> Bools:
    """The exposures to keep, so that being drawn and accepted has the same probability for all: the lowest propensity.

    Rejection sampling: each is kept with probability min(propensity_N) / propensity.
    """
    accepted_N: Bools = rng.random(len(propensity_N)) * propensity_N < propensity_N.min(initial=1.0)
    return accepted_N


class _Waves:
    """Exposures sorted by user and time, in waves: wave k holds the k-th exposure of each user who has that many.

    Of exposures of a user with equal times only the first is in a wave.
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
        has_new_time = np.ones(len(user), np.bool_)
        has_new_time[1:] = (user[1:] != user[:-1]) | (self.at_ms[1:] != self.at_ms[:-1])
        row = np.flatnonzero(has_new_time)
        user = user[row]
        start = np.searchsorted(user, np.arange(len(users)))
        wave = np.arange(len(row)) - start[user]
        self._user, self._row, self._wave = user, row, wave
        self.waves = int(wave.max(initial=-1)) + 1

    def users_and_rows(self, wave: int) -> tuple[Ints, Ints]:
        """The users of a wave, ascending, and the row of each."""
        selected = np.flatnonzero(self._wave == wave)
        return self._user[selected], self._row[selected]

    def floats(self, name: str) -> npt.NDArray[np.float64]:
        """A column of numbers, all rows."""
        return np.asarray(self._table.column(name), dtype=np.float64)

    def values(self, name: str, row_N: Ints) -> pa.Array:
        values = self._table.column(name).combine_chunks()
        return values.take(pa.array(row_N))


def _read(lake: Lake, dataset: Dataset, days: Sequence[str], split: str) -> pa.Table:
    """The exposures of the split's users on these days."""
    columns = [
        "user_id",
        "exposure_id",
        "exposed_at_ms",
        "channel",
        "propensity",
        *dataset.gain_names,
        *(c.name for c in known_after_columns(dataset) if c.name not in ("channel", "cost")),
        *(c.name for c in dataset.features(Known.BEFORE)),
        *(c.name for c in profile_inputs(dataset)),
    ]
    tables = []
    for day in days:  # one day at a time, because most rows belong to users of other splits
        partition = lake[EXPOSURES, dataset, day]
        partition.require()
        table = partition.read(columns)
        users = pc.unique(table.column("user_id"))
        split_users = pa.array([user for user in users.to_pylist() if split_of(user) == split], users.type)
        tables.append(table.filter(pc.is_in(table.column("user_id"), value_set=split_users)))
    return pa.concat_tables(tables) if tables else pa.table({})
