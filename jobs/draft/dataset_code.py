"""The call of Dataset in a drafted module, with the reasons of its arguments as comments."""

from collections.abc import Iterator
from datetime import UTC, datetime

from jobs.draft.contract_draft import RESERVED, Draft, OutcomeTable
from jobs.draft.expressions import (
    column_name,
    flag_expression,
    flag_refusal,
    is_category,
    reference,
    text_literal,
    time_expression,
    value_expression,
)
from jobs.draft.python_code import Argument, Call, Node, call, elements, quoted, texts
from jobs.draft.roles import Events, channel_candidates, is_constant_per_user, named_reasons, usual_placeholder
from jobs.draft.tables import SideTable
from jobs.draft.values import ColumnSample, shortened

QUESTION = "Known.UNANSWERED"
CATEGORY, NUMBER = "_category", "_number"  # functions of the drafted module
_UNANSWERED = "UNANSWERED"
_OUTCOME_HOURS = 24


def dataset_call(draft: Draft) -> Call:
    columns = _columns(draft)
    arguments = [
        Argument(quoted(draft.name), "name"),
        Argument(quoted(draft.name), "title"),
        Argument("LOG", "log"),
        Argument(texts(*draft.key.columns), "log_key", _key_reason(draft)),
        Argument(_user(draft), "user_id", _user_reason(draft)),
        Argument("EXPOSED_AT_MS", "exposed_at_ms"),
        Argument("ZONE", "timezone"),
        Argument(_channel(draft), "channel", _channel_reason(draft)),
        Argument(elements(*_gain_weights(draft)), "gains", _gain_reason(draft)),
    ]
    if draft.events:
        exposures = ", ".join(map(text_literal, draft.events.exposures))
        condition = f"{reference('log', draft.events.column)} IN ({exposures})"
        arguments.append(Argument(quoted(condition), "is_exposure", "The other rows report outcomes."))
    if outcomes := [*_event_outcomes(draft), *(_file_outcome(draft, o) for o in draft.outcome_tables)]:
        reason = "Until how many hours after an exposure does an outcome count for it?"
        arguments.append(Argument(elements(*outcomes), "outcomes", reason))
    arguments.append(Argument(elements(*columns), "columns", _left_out(draft)))
    if draft.lookups:
        lookups = [_lookup(draft, side) for side in draft.lookups]
        arguments.append(Argument(elements(*lookups), "lookups"))
    arguments.append(Argument(elements(*_refusals(draft)), "refusals"))
    return call("Dataset", *arguments)


def _key_reason(draft: Draft) -> str:
    copies = "No sampled row repeats an earlier one in them."
    if draft.key.copies:
        copies = f"{draft.key.copies:,} of {draft.log.rows:,} sampled rows repeat an earlier one: duplicates."
    return f"The columns that identify a row, the time among them. {copies}"


def _user(draft: Draft) -> Call:
    if draft.user is None:
        return call("Derived", call("Column", '"user_id"', '"string"', '"the user"'), _UNANSWERED)
    column = draft.log.column(draft.user)
    source, placeholder = reference("log", draft.user), usual_placeholder(column)
    dtype = "bigint" if column.dtype == "bigint" else "string"
    if placeholder is not None:
        source = f"nullif({source}, {placeholder if dtype == 'bigint' else text_literal(placeholder)})"
    return call(
        "Derived", call("Column", '"user_id"', quoted(dtype), quoted(f"the user ({draft.user})")), quoted(source)
    )


def _user_reason(draft: Draft) -> str:
    reason = f"Candidates for the user: {named_reasons(draft.log.users[:3])}."
    if draft.user is None:
        reason += (
            " If one of them is the user, draft again with --user and its name. Otherwise, which columns together "
            "identify a person? Name them, for example log.a || '/' || log.b: without one of them the row is refused, "
            "whereas concat_ws would skip it and make different users one."
        )
    elif (placeholder := usual_placeholder(draft.log.column(draft.user))) is not None:
        reason += f" {shortened(placeholder)} is far more frequent than any other value and seems to mean unknown."
    return reason


def _channel_reason(draft: Draft) -> str:
    text = f"Candidates for the channel: {named_reasons(draft.channels[:4])}."
    for side in draft.lookups:
        further = channel_candidates(side.table.columns, {side.key, *side.table.notations})[:2]
        if further and side.log_key != draft.user:
            text += f" In the view {draft.views[side.table]}: {named_reasons(further)}."
    return text


def _channel(draft: Draft) -> str:
    if draft.channel is None:
        return _UNANSWERED
    source = reference("log", draft.channel)
    return quoted(source if draft.log.column(draft.channel).dtype == "string" else f"cast({source} AS varchar)")


def _gain_weights(draft: Draft) -> Iterator[Call]:
    for name in (*draft.gain_names, *draft.late_gains.values()) or ("gain",):
        yield call("Gain", quoted(name), "1.0")


def _gain_reason(draft: Draft) -> str:
    reasons = [f"{name} (yes in {draft.log.column(name).true_share:.2%})" for name in draft.gains]
    if draft.events:
        counts = draft.log.column(draft.events.column).counts
        reasons += [f"{word} ({counts[word]:,} separate rows)" for word in draft.events.outcomes]
    reasons += [
        f"{gain} (yes in {1 - draft.log.column(time).missing_share:.2%}, which have {time})"
        for time, gain in draft.late_gains.items()
    ]
    reasons += [f"{o.gain} (rows of {o.side.table.file_names[0]})" for o in draft.outcome_tables]
    text = f"The outcomes, each with its weight in the reward: {'; '.join(reasons) or 'no column'}."
    if draft.complements:
        text += f" Left out as the opposite of one of them: {', '.join(draft.complements)}."
    if draft.events and draft.events.unknown_words:
        counts = draft.log.column(draft.events.column).counts
        listed = ", ".join(f"{shortened(word)} ({counts[word]:,} rows)" for word in draft.events.unknown_words)
        text += f" Rows of other words are refused unless an outcome names them: {listed}."
    if draft.further_flags:
        text += f" Further columns of yes and no: {', '.join(draft.further_flags)}."
    return text


def _event_outcomes(draft: Draft) -> Iterator[Call]:
    if draft.events is None:
        return
    names = draft.gain_names[len(draft.gains) :]
    for name, word in zip(names, draft.events.outcomes, strict=False):
        condition = f"{reference('log', draft.events.column)} = {text_literal(word)}"
        yield call(
            "Outcome", gain=quoted(name), doc=quoted(f"1 if a row '{word}' followed"), match=texts(*draft.match),
            within_hours=str(_OUTCOME_HOURS), condition=quoted(condition),
        )  # fmt: skip


def _file_outcome(draft: Draft, outcome: OutcomeTable) -> Call:
    table = outcome.side.table
    view = draft.views[table]
    name = draft.gain_names[-len(draft.outcome_tables) + draft.outcome_tables.index(outcome)]
    keywords: dict[str, Node] = {
        "gain": quoted(name),
        "doc": quoted(f"1 if a row of {table.file_names[0]} followed"),
        "match": texts(outcome.side.log_key),
        "within_hours": str(_OUTCOME_HOURS),
        "file": view.upper(),
    }
    if outcome.side.key != outcome.side.log_key:
        keywords["file_match"] = texts(outcome.side.key)
    at_ms = time_expression(view, table.column(outcome.time), table.notations[outcome.time])
    return call("Outcome", **keywords, at_ms=at_ms)


def _columns(draft: Draft) -> list[Argument]:
    gain_names = (*draft.gain_names, *draft.late_gains.values())
    used_names = set(RESERVED) | {name.lower() for name in gain_names}
    # An outcome that separate rows report also has the column of its time.
    used_names |= {f"{name.lower()}_at_ms" for name in draft.gain_names[len(draft.gains) :]}
    arguments = [_gain_column(draft, name, raw) for name, raw in zip(draft.gain_names, draft.gains, strict=False)]
    if not gain_names:
        column = call("Column", '"gain"', '"int"', '"1 if the exposure was a success, otherwise 0"', QUESTION)
        arguments.append(Argument(call("Derived", column, _UNANSWERED)))
    user = draft.log.column(draft.user) if draft.user else None
    lookup_keys = {side.log_key for side in draft.lookups}
    for raw in _feature_columns(draft):
        static = user is not None and is_constant_per_user(raw, user)
        arguments.append(
            _feature(raw, "log", column_name(raw.name, used_names), static=static, is_key=raw.name in lookup_keys)
        )
    for side in draft.lookups:
        for raw in side.table.columns:
            if raw.name not in ("", side.key) and len(raw.counts) > 1:
                name = column_name(raw.name, used_names)
                arguments.append(_feature(raw, draft.views[side.table], name, static=side.log_key == draft.user))
    for raw in draft.further_times:
        name = column_name(f"{raw.name}_ms", used_names)
        if raw.name in draft.late_gains:
            arguments.append(_late_gain(raw, draft.late_gains[raw.name], name))
        arguments.append(_further_time(draft, raw, name))
    for name, doc in (("hour", "hour of the exposure, 0-23"), ("weekday", "day of the week, Monday 0")):
        column = call("Column", quoted(name), '"int"', quoted(doc), "Known.BEFORE", role="Role.CATEGORICAL")
        arguments.append(Argument(call("Derived", column, call(f"{name}_of", "EXPOSED_AT_MS", "ZONE"))))
    return arguments


def _gain_column(draft: Draft, name: str, raw_name: str) -> Argument:
    raw = draft.log.column(raw_name)
    column = call("Column", quoted(name), '"int"', quoted(f"1 if {raw_name}"), QUESTION)
    return Argument(call("Derived", column, quoted(flag_expression("log", raw))))


def _late_gain(time: ColumnSample, name: str, time_name: str) -> Argument:
    column = call("Column", quoted(name), '"int"', quoted(f"1 if there is {time.name}"), QUESTION)
    node = call("Derived", column, quoted(f"cast({reference('log', time.name)} IS NOT NULL AS int)"))
    reason = (
        f'Known.AT, known_at="{time_name}", unless the exposure itself tells it. Not a gain: delete both lines of it.'
    )
    return Argument(node, "", reason)


def _further_time(draft: Draft, raw: ColumnSample, name: str) -> Argument:
    doc = quoted(f"{raw.name} in milliseconds since 1970, UTC")
    column = call("Column", quoted(name), '"bigint"', doc, "Known.NEVER", nullable="True")
    node = call("Derived", column, time_expression("log", raw, draft.log.notations[raw.name]))
    return Argument(node, "", f'A gain that becomes known at this time: Known.AT, known_at="{name}".')


def _feature(raw: ColumnSample, view: str, name: str, *, static: bool, is_key: bool = False) -> Argument:
    """is_key: a side table has a row for each value, which thus is a name and not an amount."""
    category = is_category(raw) or is_key
    node = call(
        CATEGORY if category else NUMBER, quoted(name), quoted(f"{raw.name} of {view}"), QUESTION,
        quoted(value_expression(view, raw, is_category=category)), **({"static": "True"} if static else {}),
    )  # fmt: skip
    reason = "Each user has one value: it is static if it belongs to a profile." if static and view == "log" else ""
    return Argument(node, "", reason)


def _feature_columns(draft: Draft) -> list[ColumnSample]:
    used = {draft.time, draft.user, draft.channel, *draft.gains, *draft.complements}
    used |= {draft.events.column} if draft.events else set()
    return [c for c in draft.raw_columns if c.name not in used and c.name not in _useless(draft)]


def _useless(draft: Draft) -> dict[str, str]:
    """The log's columns that cannot be features, each with the reason."""
    reasons = {}
    for column in draft.raw_columns:
        if column.name in draft.log.notations and column.name != draft.time:
            reasons[column.name] = "a further time"
        elif draft.events and not _has_exposures(column, draft.log.column(draft.events.column), draft.events):
            reasons[column.name] = "only in rows of outcomes"
        elif len(column.counts) < 2:
            reasons[column.name] = "constant"
        elif column.is_unique and column.dtype != "double" and draft.log.rows >= 20:
            reasons[column.name] = "different in every row"
    return reasons


def _has_exposures(column: ColumnSample, event: ColumnSample, events: Events) -> bool:
    """Whether the row of an exposure has a value in the column."""
    return any(
        word.strip() in events.exposures and text.strip() not in column.null_tokens
        for word, text in zip(event.texts, column.texts, strict=True)
    )


def _left_out(draft: Draft) -> str:
    used = {draft.time, draft.user, draft.channel, *draft.gains, *draft.complements}
    used |= {column.name for column in draft.further_times}
    names = [f"{name} ({reason})" for name, reason in _useless(draft).items() if name not in used]
    names += [f"{name} (lists or parts)" for name in draft.log.nested]
    names += [f"{name} (the name of another column)" for name in draft.log.repeated]
    question = (
        "When is each value known? BEFORE the exposure (hour, profile), WITH the ad that was chosen, AFTER it with the "
        "outcome, AT the time of another column, or NEVER as an input."
    )
    if draft.costs:
        question += f" If {', '.join(draft.costs)} is the cost of an exposure, name it as cost= of the dataset as well."
    if draft.propensities:
        question += (
            f" If {', '.join(draft.propensities)} is the probability with which the channel was drawn, name it as "
            "propensity= of the dataset instead."
        )
    return question + (f" Left out: {', '.join(names)}." if names else "")


def _lookup(draft: Draft, side: SideTable) -> Argument:
    noun = "user" if side.log_key == draft.user else side.log_key.lower().removesuffix("id").rstrip("_") or "key"
    keywords: dict[str, Node] = {}
    if side.unmatched_share != 0:
        keywords["optional"] = "True"
    share = "unknown: the sample does not have the whole table"
    if side.unmatched_share is not None:
        share = f"{side.unmatched_share:.1%}"
    reason = f"Share of sampled rows without a match: {share}. They are refused unless the lookup is optional."
    file, keys = draft.views[side.table].upper(), (side.key, side.log_key, noun)
    return Argument(call("Lookup", file, *map(quoted, keys), **keywords), "", reason)


def _refusals(draft: Draft) -> Iterator[Node | Argument]:
    notation = draft.notation
    if notation.first is not None and notation.last is not None:
        first, last = notation.first.year - 5, notation.last.year + 10
        condition = f"{{EXPOSED_AT_MS}} NOT BETWEEN {_ms_of(first)} AND {_ms_of(last)}"
        yield Argument(
            call("Refusal", quoted(f"the time is not from {first} to {last - 1}"), f'f"{condition}"'), "",
            "A row with a wrong time would wait for its day, and every run would name it.",
        )  # fmt: skip
    for name in draft.gains:
        yield call("Refusal", *map(quoted, flag_refusal("log", draft.log.column(name))))


def _ms_of(year: int) -> int:
    return int(datetime(year, 1, 1, tzinfo=UTC).timestamp() * 1000)
