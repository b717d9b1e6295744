"""Which columns may be the user, the time, the channel, the gains and the key, each with the reason."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jobs.draft.times import EPOCH, FROM_START, TimeNotation
from jobs.draft.values import ColumnSample, shortened

_USER_WORDS = re.compile(
    r"user|visitor|cookie|customer|member|client|account|person|device_?id|player|subscriber|ipinyouid|(?:^|_)uid|guest"
)
_NOT_USERS = re.compile(r"user_?agent|feature|segment|(?:num|(?<!ac)count|type|level|group|gender|age)$|user-")
_MEASURES = re.compile(
    r"price|cost|amount|micros|cents|spend|score|rank|duration|seconds|width|height|length|(?<!ac)count"
)
_SESSION = re.compile(r"session|visit_?id|request|impression|bid_?id|event_?id|order|transaction")
_TIME_WORDS = re.compile(r"time|(?:^|_)ts(?:$|_)|date|(?:^|_)at$|_at_|hour|(?:^|_)day|when|stamp")
_LATE_TIME_WORDS = re.compile(r"conver|click|purchase|order|install|register|signup|birth|create|update|expire|attrib")
_OUTCOME_TIME_WORDS = re.compile(r"conver|click|purchas|order|install|bought|buy|paid|sold|subscri|sign_?up|open|cart")
_CHANNEL_WORDS = re.compile(
    r"channel|placement|slot|position|(?:^|_)pos$|(?:^|_)pid|(?:^|_)tab$|exchange|medium|source|network|format|surface|"
    r"segment|variant|arm$|banner|carrier|sent_by|(?:^|_)via"
)
_GAIN_WORDS = re.compile(
    r"click|clk|conver|purchas|order|bought|buy|install|like|follow|share|comment|view|watch|open|visit|label|response|"
    r"reward|outcome|action|attribut|sale|paid|complete|favo|cart|engage|react|(?<!dis)play(?!er)|save|bookmark|"
    r"subscrib|sign_?up|download|accept|reply|replied|(?:^|_)lead$"
)
_NEGATED = re.compile(r"^(?:no|non|not|un)_?")
_PROFILE_WORDS = re.compile(r"gender|sex|new|member|vip|premium|employ|married|is_rand|random|test|bot|mobile|app$")
_EVENT_WORDS = re.compile(r"event|evt|action|type|behaviou?r|activity|kind|verb")
_SEEN = {
    "view",
    "impression",
    "imp",
    "pv",
    "show",
    "exposure",
    "display",
    "pageview",
    "serve",
    "sent",
    "deliver",
    "seen",
}
_DONE = {
    "click", "clk", "tap", "cart", "addtocart", "add_to_cart", "remove_from_cart", "checkout", "purchase", "buy",
    "bought", "order", "pay", "paid", "transaction", "conversion", "convert", "fav", "favorite", "like", "save",
    "share", "install", "signup", "subscribe", "open", "download", "book", "apply",
}  # fmt: skip
_MOST_CHANNELS = 100
_FEWEST_EVENT_WORDS, _MOST_EVENT_WORDS = 3, 12
LIKELY_USER = 3.0  # the score of a column whose name means a person or a device, and that is not often missing
_FEWEST_ITEMS = 5
_FEWEST_ROWS_OF_AN_ID = 100  # in fewer rows, any text may be different
_FEWEST_USERS = 20  # of a column whose name does not mean a person
_MOST_KEY_COLUMNS = 6
_WORTH_A_COLUMN = 0.8  # a further column of the key leaves at most this share of the copies


@dataclass(frozen=True, slots=True)
class Candidate:
    """A column that may have a role. score: higher is likelier; reason: for a person, in words."""

    column: str
    score: float
    reason: str


@dataclass(frozen=True, slots=True)
class Events:
    """A column whose words name the kind of a row: an exposure, an outcome of an earlier one, or none of the two."""

    column: str
    exposures: tuple[str, ...]
    outcomes: tuple[str, ...]
    unknown_words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Key:
    """The columns that identify a row. copies: the rows of the sample that are equal in them to an earlier row."""

    columns: tuple[str, ...]
    copies: int


def time_candidates(columns: Sequence[ColumnSample], notations: Mapping[str, TimeNotation]) -> list[Candidate]:
    """Best first: a name that means time, few missing values, a fine resolution."""
    candidates = []
    for column in columns:
        notation = notations.get(column.name)
        if notation is None:
            continue
        name = column.name.lower()
        score = 3.0 * bool(_TIME_WORDS.search(name)) - 2.0 * bool(_LATE_TIME_WORDS.search(name))
        score -= 4.0 * column.missing_share
        score += {True: 1.0, False: 0.0}[notation.resolution_s <= 1] - (notation.resolution_s >= 86_400)
        score -= 3.0 * (notation.kind == FROM_START) + 1.0 * (len(column.counts) == 1)
        if score > 0 or notation.kind != EPOCH:
            candidates.append(Candidate(column.name, score, _time_reason(column, notation)))
    return _best_first(candidates)


def user_candidates(columns: Sequence[ColumnSample], not_users: set[str]) -> list[Candidate]:
    """Best first: a name that means a person or a device, and values that come again; then the number of values."""
    candidates = []
    for column in columns:
        values, distinct = len(column.values), len(column.counts)
        is_number = column.dtype == "double" or column.has_decimal_commas
        name = column.name.lower()
        is_measure = column.dtype == "bigint" and _MEASURES.search(name) is not None
        if column.name in not_users or is_number or is_measure or distinct < 2 or column.is_flag:
            continue
        named = bool(_USER_WORDS.search(name)) and not _NOT_USERS.search(name)
        session = bool(_SESSION.search(name))
        id_like = bool(re.search(r"id$", name))
        rows_each = values / distinct
        fewest_rows = 1.05 if id_like else 1.5
        if not named and (rows_each < fewest_rows or distinct < _FEWEST_USERS):
            continue
        score = 4.0 * named + 1.0 * id_like - 3.0 * session - 2.0 * column.missing_share
        score += 1.0 * (rows_each >= 1.05) - 2.0 * (distinct < 5)
        reason = f"{distinct:,} different values in {values:,} rows"
        reason += ", and its name means a person or a device" if named else ""
        candidates.append(Candidate(column.name, score + 0.1 * distinct / values, reason))
    return _best_first(candidates)


def usual_placeholder(column: ColumnSample) -> str | None:
    """A value of the user's column that is far more frequent than any other: probably all unknown users together."""
    (value, rows), *less_frequent = column.counts.most_common(2)
    is_usual = (
        less_frequent
        and rows > 0.05 * len(column.values)
        and rows > 20 * less_frequent[0][1]
        and len(column.counts) > 10
    )
    return value if is_usual else None


def channel_candidates(columns: Sequence[ColumnSample], excluded: set[str]) -> list[Candidate]:
    """Best first: a few values that all occur often, and a name that means a place or a medium."""
    candidates = []
    for column in columns:
        distinct = len(column.counts)
        if column.name in excluded or not 2 <= distinct <= _MOST_CHANNELS or column.dtype == "double":
            continue
        named = bool(_CHANNEL_WORDS.search(column.name.lower()))
        if column.is_flag and not named:
            continue
        if distinct > 0.5 * len(column.values) and not named:
            continue
        largest = column.counts.most_common(1)[0][1] / len(column.values)
        score = 4.0 * named - 2.0 * (largest > 0.95) - 1.0 * (distinct > 30) - 2.0 * column.missing_share
        names = ", ".join(shortened(value) for value, _ in column.counts.most_common(5))
        candidates.append(Candidate(column.name, score, f"{distinct} values: {names}{', ...' if distinct > 5 else ''}"))
    return _best_first(candidates)


def gain_candidates(columns: Sequence[ColumnSample], excluded: set[str]) -> list[Candidate]:
    """Columns of yes and no, best first. A complement of a better one, such as nonclk of clk, is left out."""
    candidates = []
    for column in columns:
        if column.name in excluded or not column.is_flag or column.missing_share > 0.5:
            continue
        name = column.name.lower()
        score = 3.0 * bool(_GAIN_WORDS.search(name)) - 3.0 * bool(_PROFILE_WORDS.search(name))
        score -= 2.0 * bool(_NEGATED.search(name)) + 2.0 * (column.true_share > 0.95)
        if score > 0:
            candidates.append(Candidate(column.name, score, f"yes in {column.true_share:.2%} of the rows"))
    return candidates if len(candidates) < 2 else sorted(candidates, key=lambda c: -c.score)


def event_column(columns: Sequence[ColumnSample]) -> Events | None:
    """The column whose values name exposures and outcomes, for a log that has a row for each of them.

    Its name means events, or it has at least three values, all of which are such words.
    """
    for column in columns:
        exposures = [value for value in column.counts if _is_one_of(value, _SEEN)]
        outcomes = [value for value in column.counts if _is_one_of(value, _DONE)]
        unknown_words = [value for value in column.counts if value not in {*exposures, *outcomes}]
        is_named = _EVENT_WORDS.search(column.name.lower()) is not None or (
            len(column.counts) >= _FEWEST_EVENT_WORDS and not unknown_words
        )
        if is_named and len(column.counts) <= _MOST_EVENT_WORDS and outcomes and exposures:
            return Events(column.name, tuple(exposures), tuple(outcomes), tuple(unknown_words))
    return None


def _is_one_of(value: str, verbs: set[str]) -> bool:
    """Whether the value is one of the verbs, or a form of one such as clicked, tapped or views."""
    word = value.lower().replace(" ", "_").replace("-", "_")
    stems = {word, word.removesuffix("s"), word.removesuffix("d"), word.removesuffix("ed"), word.removesuffix("n")}
    stems |= {stem[:-1] for stem in stems if len(stem) > 2 and stem[-1] == stem[-2]}
    return bool(stems & verbs)


def outcome_match(columns: Sequence[ColumnSample], user: str, events: Events, excluded: set[str]) -> tuple[str, ...]:
    """The user, and the column that an outcome shares with its exposure, such as the item.

    Of the columns that at least half as many outcomes share as share any of them, the one with the most values: an item
    rather than its category.
    """
    shared: dict[str, int] = {}
    for column in columns:
        is_id = column.dtype != "double" and len(column.counts) >= _FEWEST_ITEMS and not column.missing_share
        if is_id and column.name not in {user, events.column, *excluded} and not _SESSION.search(column.name.lower()):
            shared[column.name] = _shared_outcomes(columns, (user, column.name), events)
    largest = max(shared.values(), default=0)
    distinct = {c.name: len(c.counts) for c in columns if largest and 2 * shared.get(c.name, 0) >= largest}
    return (user, max(distinct, key=lambda name: distinct[name])) if distinct else (user,)


def _shared_outcomes(columns: Sequence[ColumnSample], key: Sequence[str], events: Events) -> int:
    """The outcomes of the sample that an earlier exposure of the sample agrees with in the key."""
    texts = {column.name: column.texts for column in columns}
    exposures: set[tuple[str, ...]] = set()
    outcomes = 0
    for word, *values in zip(texts[events.column], *(texts[name] for name in key), strict=True):
        if word in events.exposures:
            exposures.add(tuple(values))
        outcomes += word in events.outcomes and tuple(values) in exposures
    return outcomes


def key_columns(columns: Sequence[ColumnSample], user: str | None, time: str, excluded: set[str]) -> Key:
    """The time, and as few further columns as make the rows of the sample differ.

    An id that never comes again is taken alone; without one the user, and then a text that never comes again, or the
    columns that leave the fewest copies. The time is never alone: in more rows than these, two may have the same.
    """
    texts = {column.name: column.texts for column in columns if column.name not in excluded}
    by_name = {column.name: column for column in columns}
    for name in texts:
        column = by_name[name]
        is_id = re.search(r"id$", name.lower()) and column.dtype != "double" and not column.missing_share
        if name not in (user, time) and is_id and column.is_unique:
            return Key((name, time), 0)
    key = [name for name in (user, time) if name is not None]
    unique_texts = [name for name in texts if by_name[name].dtype == "string" and by_name[name].is_unique]
    unique_texts = [name for name in unique_texts if name not in key and not by_name[name].missing_share]
    if unique_texts and len(texts[time]) >= _FEWEST_ROWS_OF_AN_ID:
        return Key((*key, unique_texts[0]), 0)
    if key == [time]:
        further = [name for name in texts if name != time and by_name[name].dtype != "double"]
        key += sorted(further, key=lambda name: -len(by_name[name].counts))[:1]
    copies = _copies([texts[name] for name in key])
    while copies and len(key) < _MOST_KEY_COLUMNS:
        remaining = [
            name for name in texts
            if name not in key and by_name[name].dtype != "double" and len(by_name[name].counts) > 1
        ]  # fmt: skip
        by_copies = {name: _copies([texts[k] for k in (*key, name)]) for name in remaining}
        best = min(by_copies, key=lambda name: (by_copies[name], remaining.index(name)), default=None)
        if best is None or by_copies[best] > _WORTH_A_COLUMN * copies:
            break
        key.append(best)
        copies = by_copies[best]
    return Key(tuple(key), copies)


def is_outcome_time(column: ColumnSample) -> bool:
    """Whether the column's name is that of the time of an outcome, such as converted_at."""
    return _OUTCOME_TIME_WORDS.search(column.name.lower()) is not None


def is_true_with(flag: ColumnSample, time: ColumnSample) -> bool:
    """Whether the column of yes and no is yes in the rows that have the time, and in no other."""
    yes = flag.flag_words[1] if flag.flag_words else "1"
    has_time = (text.strip() not in time.null_tokens for text in time.texts)
    return all((text.strip().lower() == yes) == b for text, b in zip(flag.texts, has_time, strict=True))


def is_constant_per_user(column: ColumnSample, user: ColumnSample) -> bool:
    """Whether each user has one value in the sample, and enough users have several rows to show it."""
    first: dict[str, str] = {}
    repeated = changed = 0
    for person, text in zip(user.texts, column.texts, strict=True):
        if person in first:
            repeated += 1
            changed += first[person] != text
        else:
            first[person] = text
    return len(column.counts) > 1 and repeated >= 20 and changed == 0


def named_reasons(candidates: Sequence[Candidate]) -> str:
    return "; ".join(f"{candidate.column} ({candidate.reason})" for candidate in candidates) or "no column"


def _copies(texts: Sequence[Sequence[str]]) -> int:
    rows = list(zip(*texts, strict=True))
    return len(rows) - len(set(rows))


def _time_reason(column: ColumnSample, notation: TimeNotation) -> str:
    if notation.first is None or notation.last is None:
        return f"grows from {column.values[0]} to {column.values[-1]}"
    missing = f", missing in {column.missing_share:.1%}" if column.missing_share else ""
    return f"{notation.first:%Y-%m-%d %H:%M} to {notation.last:%Y-%m-%d %H:%M}{missing}"


def _best_first(candidates: list[Candidate]) -> list[Candidate]:
    """Sorted by score; candidates of one score keep the order of their columns."""
    return sorted(candidates, key=lambda candidate: -candidate.score)
