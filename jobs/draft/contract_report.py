"""The report on a contract that was tried on the first rows of a log: lines for a person."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from jobs.draft.values import shortened
from schemas.contract import Column, Known, Role
from schemas.dataset import Dataset, RawColumn
from schemas.printable import counted

DS, REASON, RAW, SOURCE, OUTCOME, JOINED = "ds", "_reason", "_raw", "_source_file", "_outcome", "_joined"
_DUPLICATE = "duplicate"  # in JOINED
_EXAMPLES = 3
_CATEGORIES_SHOWN = 5
_REASONS_SHOWN = 20
_FEWEST_TELLING = 20  # in fewer rows, a column may agree with a gain or the channel by chance
_KNOWN_ORDER = (Known.BEFORE, Known.WITH, Known.AFTER, Known.AT, Known.NEVER)
_WORDS_FOR_NO = ("", "0", "0.0", "f", "false", "n", "no")


@dataclass(frozen=True, slots=True)
class Tried:
    """The rows of the sample, by their fate.

    lone: the number of outcomes by gain whose exposures are in
    no row of the sample; they are not in `rows`.
    """

    rows: pa.Table
    lone: Mapping[str, int]

    @property
    def refused(self) -> pa.Table:
        return self.rows.filter(pc.is_valid(self.rows.column(REASON)))

    @property
    def exposures(self) -> pa.Table:
        """Duplicates included."""
        return self._usable.filter(pc.is_null(self._usable.column(OUTCOME))) if self._has_outcomes else self._usable

    @property
    def reported(self) -> Counter[str]:
        """The number of outcomes of an exposure by gain, without repeated rows."""
        return Counter(gain for gain, fate in self._outcomes if fate != _DUPLICATE)

    @property
    def duplicates(self) -> int:
        return _copies(self.exposures) + sum(fate == _DUPLICATE for _, fate in self._outcomes)

    @property
    def _outcomes(self) -> list[tuple[str, str]]:
        """The gain and the fate of each row that reports one."""
        if not self._has_outcomes:
            return []
        rows = self._usable.filter(pc.is_valid(self._usable.column(OUTCOME)))
        return list(zip(rows.column(OUTCOME).to_pylist(), rows.column(JOINED).to_pylist(), strict=True))

    @property
    def _usable(self) -> pa.Table:
        return self.rows.filter(pc.is_null(self.rows.column(REASON)))

    @property
    def _has_outcomes(self) -> bool:
        return OUTCOME in self.rows.column_names


def report_lines(
    dataset: Dataset, sample: pa.Table, rows: pa.Table, lone_outcomes: Mapping[str, int] | None = None
) -> Iterator[str]:
    """sample: the typed rows of the log's files. rows, lone_outcomes: what the contract makes of them, as in Tried."""
    tried = Tried(rows, lone_outcomes or {})
    yield from _totals(dataset, sample, tried)
    yield from _refusals(tried.refused)
    yield ""
    yield "columns of the files:"
    yield from _aligned(_raw_column(column, sample) for column in dataset.log.columns)
    yield ""
    yield "columns of the exposures:"
    yield from _aligned(_exposure_columns(dataset, tried.exposures))
    yield from _warnings(dataset, tried)


def _totals(dataset: Dataset, sample: pa.Table, tried: Tried) -> Iterator[str]:
    names = pc.unique(sample.column(SOURCE)).to_pylist()
    exposures, days = tried.exposures, sorted(filter(None, pc.unique(tried.exposures.column(DS)).to_pylist()))
    yield f"{dataset.name}: the first {counted(len(sample), 'row')} of {', '.join(map(shortened, names[:_EXAMPLES]))}"
    users = pc.count_distinct(exposures.column("user_id")).as_py()
    yield f"  {counted(len(exposures) - _copies(exposures), 'exposure')} of {counted(users, 'user')}"
    yield f"  {counted(tried.duplicates, 'duplicate')}: equal in {', '.join(dataset.log_key)}"
    if dataset.outcomes:
        counts = tried.reported
        listed = ", ".join(f"{name} {n:,}" for name, n in counts.most_common()) or "-"
        yield f"  {counted(counts.total(), 'outcome')}: {listed}"
    if lone := sum(tried.lone.values()):
        yield f"  {counted(lone, 'outcome')} whose exposures are not among these rows"
    yield f"  {len(tried.refused):,} refused"
    if days:
        yield f"  {counted(len(days), 'day')}, {days[0]} to {days[-1]}, on the clocks of {dataset.timezone}"


def _refusals(refused: pa.Table) -> Iterator[str]:
    """A line for each reason, most frequent first. The value at the end of a reason is an example of it."""
    if not len(refused):
        return
    yield ""
    yield "refused:"
    rows_by_reason: dict[str, list[str]] = {}
    for reason, raw in zip(refused.column(REASON).to_pylist(), refused.column(RAW).to_pylist(), strict=True):
        kind, _, value = reason.partition(": ")
        text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
        rows_by_reason.setdefault(kind, []).append(value or text)
    reasons = sorted(rows_by_reason, key=lambda kind: -len(rows_by_reason[kind]))
    yield from _aligned(
        (f"{len(rows_by_reason[kind]):,}", kind, f"for example: {_examples(rows_by_reason[kind])}")
        for kind in reasons[:_REASONS_SHOWN]
    )
    if len(reasons) > _REASONS_SHOWN:
        yield f"  and {counted(len(reasons) - _REASONS_SHOWN, 'more reason')}"


def _raw_column(column: RawColumn, sample: pa.Table) -> tuple[str, ...]:
    """Name, type, share of missing values, number of values, examples. An unreadable value counts as missing here."""
    values = sample.column(column.name)
    unreadable = pc.sum(pc.starts_with(pc.fill_null(sample.column(REASON), ""), f"{column.name} is not ")).as_py() or 0
    missing = values.null_count - unreadable
    facts = [
        f"{counted(pc.count_distinct(values).as_py(), 'value')}",
        _examples(map(str, values.drop_null().to_pylist())),
    ]
    problems = [f"missing {_share(missing, len(values))}"] if missing else []
    problems += [f"unreadable {_share(unreadable, len(values))}"] if unreadable else []
    return (column.name, column.dtype, ", ".join(problems) or "complete", *facts)


def _exposure_columns(dataset: Dataset, exposures: pa.Table) -> Iterator[tuple[str, ...]]:
    yield _exposure_column(dataset.user_id.column, "user", exposures)
    channel = Column("channel", "string", "", nullable=True, role=Role.CATEGORICAL)
    yield _exposure_column(channel, "channel", exposures)
    for derived in dataset.columns:
        column = derived.column
        kind = (
            f"gain, known {column.known.value}" if column.name in dataset.gain_names else f"known {column.known.value}"
        )
        yield _exposure_column(column, f"{kind}, static" if column.static else kind, exposures)
    if dataset.has_costs:
        yield _exposure_column(Column("cost", "double", ""), "cost", exposures)


def _exposure_column(column: Column, kind: str, exposures: pa.Table) -> tuple[str, ...]:
    """Name, kind, share of missing values, and the values: a range of numbers, the most frequent ones of the others."""
    values = exposures.column(column.name)
    missing = f"missing {_share(values.null_count, len(values))}" if values.null_count else "complete"
    return column.name, kind, missing, _spread(values.drop_null(), column)


def _spread(values: pa.ChunkedArray, column: Column) -> str:
    if not len(values):
        return "no value"
    is_number = pa.types.is_floating(values.type) or pa.types.is_integer(values.type)
    if is_number and column.role is not Role.CATEGORICAL and column.name != "user_id":
        bounds = pc.min_max(values).as_py()
        return f"{bounds['min']:,.6g} to {bounds['max']:,.6g}, mean {pc.mean(values).as_py():,.4g}"
    counts = Counter(map(str, values.to_pylist()))
    examples = ", ".join(
        f"{shortened(value)} {_share(n, len(values))}" for value, n in counts.most_common(_CATEGORIES_SHOWN)
    )
    return f"{counted(len(counts), 'value')}: {examples}"


def _warnings(dataset: Dataset, tried: Tried) -> Iterator[str]:
    """A line for each figure that a person should look at before the log is used."""
    exposures = tried.exposures
    if not len(exposures):
        yield "warning: no exposure at all: look at the reasons above"
        return
    users = pc.count_distinct(exposures.column("user_id")).as_py()
    if users == len(exposures):
        yield "warning: no user occurs twice in these rows: is user_id the right column?"
    if (largest := max(Counter(exposures.column("user_id").to_pylist()).values())) > max(20, len(exposures) // 5):
        yield f"warning: one user has {_share(largest, len(exposures))} of the exposures: is it a placeholder?"
    channels = pc.count_distinct(exposures.column("channel").drop_null()).as_py()
    if channels < 2:
        yield f"warning: {counted(channels, 'channel')} in these rows: a policy needs at least two to choose from"
    reported = {outcome.gain for outcome in dataset.outcomes}
    for gain in dataset.gain_names:
        rate = pc.mean(exposures.column(gain)).as_py() or 0.0
        if gain not in reported and not 0 < rate < 0.95:
            yield f"warning: {gain} is 1 in {rate:.1%} of the exposures: is it the right column?"
    for gain in sorted(reported - {*tried.reported}):
        if tried.lone.get(gain):
            yield f"warning: no {gain} belongs to an exposure of these rows: are its match and its time right?"
        else:
            yield f"warning: no row reports {gain}: is its condition right?"
    yield from _early_outcomes(dataset, exposures)
    yield from _early_channels(dataset, exposures)
    if (copies := _copies(exposures)) > 0.1 * len(exposures):
        yield f"warning: {_share(copies, len(exposures))} of the exposures are duplicates: is log_key complete?"


def _early_outcomes(dataset: Dataset, exposures: pa.Table) -> Iterator[str]:
    """A line for each column that shows an outcome earlier than the contract makes it known."""
    for gain in map(dataset.column, dataset.gain_names):
        is_zero = pc.equal(exposures.column(gain.name), 0)
        for column in (derived.column for derived in dataset.columns):
            if column.name in dataset.gain_names or _KNOWN_ORDER.index(column.known) >= _KNOWN_ORDER.index(gain.known):
                continue
            has_value = pc.invert(pc.is_in(_texts(exposures, column.name), pa.array(_WORDS_FOR_NO)))
            if pc.sum(has_value).as_py() >= _FEWEST_TELLING and not pc.any(pc.and_(has_value, is_zero)).as_py():
                later = Known.NEVER if gain.known is Known.AT else gain.known
                yield (
                    f"warning: {column.name} is known earlier than {gain.name}, and is missing or 0 wherever "
                    f"{gain.name} is 0: it tells the outcome. Is it Known.{later.name}?"
                )


def _early_channels(dataset: Dataset, exposures: pa.Table) -> Iterator[str]:
    """A line for each column that is known before the choice of the channel and has one value for each channel."""
    channels = _texts(exposures, "channel")
    distinct = pc.count_distinct(channels).as_py()
    if distinct < 2 or len(channels) < _FEWEST_TELLING:
        return
    for column in (derived.column for derived in dataset.columns):
        if column.known is not Known.BEFORE:
            continue
        values = _texts(exposures, column.name)
        pairs = pa.table({"channel": channels, "value": values}).group_by(["channel", "value"]).aggregate([])
        if distinct == pc.count_distinct(values).as_py() == len(pairs):
            yield f"warning: {column.name} is known before, and tells the channel: delete it, or is it Known.WITH?"


def _texts(exposures: pa.Table, name: str) -> pa.ChunkedArray:
    """The column as lower-case text; a missing value is the empty text."""
    return pc.utf8_lower(pc.fill_null(pc.cast(exposures.column(name), pa.string()), ""))


def _copies(exposures: pa.Table) -> int:
    """Exposures that an earlier one of the same day equals in the key."""
    return len(exposures) - len(exposures.group_by(["exposure_id", DS]).aggregate([]))


def _examples(values: Iterable[str]) -> str:
    """The first different values."""
    distinct = list(dict.fromkeys(values))[:_EXAMPLES]
    return ", ".join(map(shortened, distinct)) or "-"


def _share(part: int, total: int) -> str:
    share = part / max(total, 1)
    return f"{share:.1%}" if share >= 0.0005 or not part else "under 0.1%"


def _aligned(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The rows with columns of equal width."""
    table = list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
