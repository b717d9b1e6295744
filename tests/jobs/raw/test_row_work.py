"""The row work on Arrow tables, without Spark: what stops, what is refused, and what the contract's check names."""

from dataclasses import replace

import pyarrow as pa
import pytest
from event_logs import CLICKS, EVENTS

from jobs.raw.contract_sql import _database, check_expressions, evaluate
from jobs.raw.files import RawFiles
from jobs.raw.joins.lookups import read_lookups
from jobs.raw.reader.typed_rows import REASON, typed_schema
from jobs.raw.row_work import DS, log_rows, outcome_file_rows, row_schema
from schemas.contract import Column, Known
from schemas.dataset import Derived, Gain, Lookup, RawColumn, RawFile, Refusal, dataset_names, get_dataset
from schemas.errors import UserError
from schemas.times import digits_time, hour_of, iso_time, pattern_time

NOON = 1650600000000  # 2022-04-22 12:00 in Shanghai


def typed(layout: RawFile, *rows: dict) -> pa.Table:
    """Rows of a file as the reader returns them; a value that is left out is 1 or "x"."""
    defaults = {c.name: {"bigint": 1, "double": 1.0, "string": "x"}[c.dtype] for c in layout.columns}
    table = [{**defaults, REASON: None, "_raw": b"raw", "_source_file": "log", **row} for row in rows]
    return pa.Table.from_pylist(table, typed_schema(layout))


def view(ts: int = NOON, **values) -> dict:
    return {"ts": ts, "event": "view", **values}


def with_column(duckdb_sql: str, dtype: str = "int", *, nullable: bool = True):
    column = Derived(Column("added", dtype, "of the test", Known.NEVER, nullable=nullable), duckdb_sql)
    return replace(EVENTS, columns=(*EVENTS.columns, column))


def test_rows_keep_their_order_and_their_columns():
    rows = log_rows(typed(EVENTS.log, view(), {"event": "odd"}, view(-5), view(NOON + 1)), EVENTS, {})
    assert rows.schema == row_schema(EVENTS)
    assert rows.column("exposed_at_ms").to_pylist() == [NOON, None, None, NOON + 1]
    assert rows.column(REASON).to_pylist() == [
        None, "neither an exposure nor an outcome", "the time cannot be read", None,
    ]  # fmt: skip
    assert rows.column(DS).to_pylist() == ["2022-04-22", "1970-01-01", None, "2022-04-22"]


@pytest.mark.parametrize("division", ["//", "/"])
def test_an_expression_that_stops_at_a_row_is_one_line_that_names_it(division):
    dataset = with_column(f"log.item {division} log.order")
    good = log_rows(typed(EVENTS.log, view(item=6, order=6)), dataset, {})
    assert good.column("added").to_pylist() == [1]
    with pytest.raises(UserError, match=r"^dataset events, added: it stops at a row of the log: Division by zero") as e:
        log_rows(typed(EVENTS.log, view(order=0)), dataset, {})
    assert "\n" not in str(e.value)
    # A refused row cannot stop it, and neither can a row that an earlier condition refuses.
    refusals = (Refusal("no order", "log.order = 0"), Refusal("odd", "log.item // log.order > 9"))
    rows = log_rows(typed(EVENTS.log, view(order=0), view()), replace(dataset, refusals=refusals), {})
    assert rows.column(REASON).to_pylist() == ["no order", None]
    assert rows.column("added").to_pylist() == [None, 1]


@pytest.mark.parametrize("place", [0, 1, 2, 3, 4])
def test_an_expression_that_stops_names_the_first_row_and_its_file(place):
    rows = [view(item=number, order=int(number != place), _raw=b"row %d\t" % number) for number in range(5)]
    rows.append(view(order=0, _source_file="later"))
    with pytest.raises(UserError) as caught:
        log_rows(typed(EVENTS.log, {"event": "odd", "order": 0}, *rows), with_column("log.item // log.order"), {})
    assert str(caught.value).endswith(rf"; the first row, of log: row {place}\t")


def test_a_line_end_in_a_value_does_not_cut_the_error():
    with pytest.raises(UserError) as caught:
        log_rows(typed(EVENTS.log, view(event="a\nb", _raw=b"x" * 200)), with_event_as_number(), {})
    problem = r"Could not convert string 'a\nb' to INT32 when casting from source column event: use TRY"
    assert problem in str(caught.value)
    assert str(caught.value).endswith(f"the first row, of log: {'x' * 97}...")


def with_event_as_number():
    return replace(with_column("cast(log.event AS int)"), is_exposure="true OR log.event = 'x'")


def test_a_missing_value_is_the_first_that_the_contract_demands():
    dataset = with_column("TRY(log.item / log.order)", nullable=False)
    rows = log_rows(typed(EVENTS.log, view(order=0), view(), {"event": "addtocart", "order": 0}), dataset, {})
    assert rows.column(REASON).to_pylist() == ["added is missing", None, None]


def test_an_empty_user_id_is_missing():
    log = typed(CLICKS.log, *({"ts": "20220422120000250", "cookie": cookie} for cookie in ("", " ", "u 1")))
    assert log_rows(log, CLICKS, {}).column(REASON).to_pylist() == ["user_id is missing", "user_id is missing", None]


def test_rows_of_an_outcome_file_share_the_match_of_their_exposure():
    log = log_rows(typed(CLICKS.log, {"bid": "b7", "ts": "20220422120000250"}), CLICKS, {})
    (file,) = CLICKS.outcome_files
    clicked = [{"click_bid": "b7", "clicked": 20220422120001250}, {"click_bid": "b7", "clicked": 7}]
    rows = outcome_file_rows(typed(file, *clicked), CLICKS, file)
    assert rows.column("_match_0").to_pylist() == log.column("_match_0").to_pylist() * 2
    assert rows.column("exposed_at_ms").to_pylist() == [NOON + 1250, None]
    assert rows.column(REASON).to_pylist() == [None, "the time cannot be read"]
    assert rows.schema == log.schema


def time_of(expression: str, text: str, zone: str = "UTC") -> int | None:
    (value,) = evaluate({"time": expression}, {"log": pa.table({"sent": [text]})}, "x", zone).column(0).to_pylist()
    return value


@pytest.mark.parametrize(
    ("pattern", "zone", "text"),
    [
        ("d.M.yyyy H:mm", "Asia/Shanghai", "22.4.2022 12:00"),
        ("dd/MM/yy HH:mm:ss", "Asia/Shanghai", "22/04/22 12:00:00"),
        ("M/d/yyyy h:mm a", "Asia/Shanghai", "4/22/2022 12:00 PM"),
        ("EEE, d MMM yyyy HH:mm:ss.SSS", "Asia/Shanghai", "Fri, 22 Apr 2022 12:00:00.000"),
        ("d MMMM yyyy 'at' H''mm", "Asia/Shanghai", "22 April 2022 at 12'00"),
        ("d/MMM/yyyy:H:mm:ss XX", None, "22/Apr/2022:00:00:00 -0400"),
        ("yyyy-M-d'T'H:mmXXX", None, "2022-4-22T09:30+05:30"),
        ("yyyy-M-d H:mm XX", None, "2022-4-22 04:00 Z"),
        ("yyyy-M-d H:mm 100% X", None, "2022-4-22 06:00 100% +02"),
    ],
)
def test_the_letters_of_a_pattern(pattern, zone, text):
    assert time_of(pattern_time("log.sent", pattern, zone), text) == NOON
    assert time_of(pattern_time("log.sent", pattern, zone), f"{text} x") is None


@pytest.mark.parametrize("pattern", ["yyyy-MM-dd G", "yyy", "d.M.yyyy 'at", "QQ"])
def test_an_unknown_letter_of_a_pattern_is_an_error(pattern):
    with pytest.raises(ValueError, match="of a time cannot be read from"):
        pattern_time("log.sent", pattern)


def test_times_that_a_clock_skips_or_shows_twice():
    for berlin in (iso_time("log.sent", "Europe/Berlin"), digits_time("log.sent", "yyyyMMddHHmm", "Europe/Berlin")):
        is_iso = "timestamptz" in berlin
        skipped = "2024-03-31 02:30" if is_iso else "202403310230"
        twice = "2024-10-27 02:30" if is_iso else "202410270230"
        assert time_of(berlin, skipped) == 1711848600000  # 03:30 summer time
        assert time_of(berlin, twice) == 1729992600000  # the second time, in winter time


@pytest.mark.parametrize(
    "expression",
    [
        "epoch_ms(try_cast(log.sent AS timestamptz))",
        "epoch_ms(try_cast(log.sent AS timestamp))",
        "epoch_us(strptime(log.sent, '%Y-%m-%d')) // 1000",
        "epoch(cast(log.sent AS date)) * 1000",
    ],
)
def test_a_time_without_a_zone_shows_in_another_zone(expression):
    assert time_of(expression, "2022-04-22") - time_of(expression, "2022-04-22", "Etc/GMT-1") == 3_600_000


def test_fractions_of_a_millisecond_are_cut_off():
    assert time_of(iso_time("log.sent"), "2022-04-22 04:00:00.0009Z") == NOON
    assert time_of(hour_of(iso_time("log.sent"), "Asia/Shanghai"), "2022-04-22 04:00:00Z") == 12


def with_late_sale(sale_at: str, timezone: str = "Asia/Shanghai"):
    sale = Derived(Column("sale", "int", "1 if sold", Known.AT, known_at="sale_at"), "1")
    time = Derived(Column("sale_at", "bigint", "time of the sale", Known.NEVER, nullable=True), sale_at)
    gains = (*CLICKS.gains, Gain("sale", 1.0))
    return replace(CLICKS, columns=(*CLICKS.columns, sale, time), gains=gains, timezone=timezone)


def test_the_time_of_a_late_gain_needs_a_zone():
    times = ["2022-04-22 12:00:00", "2022-04-22 12:00:00+08", "never"]
    log = typed(CLICKS.log, *({"ts": "20220422120000250", "cookie": time} for time in times))
    dataset = with_late_sale("epoch_ms(try_cast(log.cookie AS timestamptz))")
    rows = log_rows(log, dataset, {})
    no_zone = "the time has no zone, and the contract names none (schemas/times.py)"
    assert rows.column(REASON).to_pylist() == [no_zone, None, None]
    assert rows.column("sale_at").to_pylist()[1:] == [NOON, None]
    assert log_rows(log, replace(dataset, timezone="UTC"), {}).column(REASON).to_pylist() == [None] * 3


NAIVE = [
    ("extract(epoch FROM strptime(log.cookie, '%Y')) * 1000", r"extract\(epoch ...\) and date_part take"),
    ("date_part('EPOCH', log.cookie::timestamp) * 1000", r"extract\(epoch ...\) and date_part take"),
    ("date_diff('ms', TIMESTAMP '1970-01-01', log.cookie::timestamp)", "date_diff takes"),
    ("epoch_ms(log.cookie::timestamp - '1970-01-01 00:00'::timestamp)", "a difference from 1970 takes"),
]


@pytest.mark.parametrize(("sale_at", "problem"), NAIVE, ids=[sql for sql, _ in NAIVE])
def test_a_count_from_1970_that_ignores_the_zone_is_refused(sale_at, problem):
    with pytest.raises(UserError, match=f"^dataset clicks, sale_at: {problem} a time without a zone as UTC: use epoch"):
        check_expressions(with_late_sale(sale_at))
    check_expressions(with_late_sale(sale_at, "UTC"))


def test_a_difference_of_times_may_be_a_feature():
    check_expressions(with_late_sale("epoch_ms(log.cookie::timestamptz - timestamptz '1970-01-01 00:00Z')"))
    column = Derived(Column("days", "int", "x", Known.NEVER), "date_diff('day', DATE '1970-01-01', log.cookie::date)")
    check_expressions(replace(CLICKS, columns=(*CLICKS.columns, column)))


@pytest.mark.parametrize("name", dataset_names())
def test_duckdb_reads_every_shipped_contract(name):
    check_expressions(get_dataset(name))


FAULTS = [
    ({"channel": "max(log.item)"}, r"channel: max is an aggregate of several rows: .*, in: max\(log.item\)"),
    ({"channel": "row_number() OVER ()"}, "channel: it has a window function: a value may depend on its own row alone"),
    ({"is_exposure": "log.item IN (SELECT 1)"}, "is_exposure: it has a subquery: a value may depend on its own row"),
    ({"cost": "Random()"}, "cost: random is not the same in each run: a value may depend on its own row alone"),
    ({"cost": "list_sum([log.item, epoch(now())])"}, "cost: now is not the same in each run"),
    ({"cost": "epoch(Current_Timestamp)"}, "cost: current_timestamp is not the same in each run"),
    (
        {"refusals": (Refusal("old", "ago(INTERVAL 1 DAY) > make_timestamptz(log.ts)"),)},
        "refusal 'old': ago is not the",
    ),
    ({"channel": "weighted_avg(log.item, 1)"}, "channel: weighted_avg is an aggregate of several rows"),
    ({"channel": "unnest([1, 2])"}, "channel: unnest is a function that returns several rows"),
    ({"is_exposure": "log.item"}, "is_exposure: it must be a condition, and its type is int64 in: log.item"),
    ({"exposed_at_ms": "cast(log.ts AS varchar)"}, "exposed_at_ms: it must be a number, and its type is string: use"),
    (
        {"user_id": Derived(Column("user_id", "bigint", "x"), "log.visitor * 1.5::double")},
        "user_id: it must be an integer, and its type is double: read the column as bigint, or declare",
    ),
    ({"user_id": Derived(Column("user_id", "int", "x"), "log.event")}, "user_id: it must be an integer, and its type"),
    ({"user_id": Derived(Column("user_id", "bigint", "x"), "lower(log.visitor)")}, "user_id: .*lower.* in: lower"),
]


@pytest.mark.parametrize(("fields", "problem"), FAULTS, ids=[problem for _, problem in FAULTS])
def test_an_expression_that_cannot_serve_is_named(fields, problem):
    with pytest.raises(UserError, match=rf"^dataset events, {problem}") as caught:
        check_expressions(replace(EVENTS, **fields))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("duckdb_sql", ["log.item * 1000L", "unix_millis(log.ts)", "log.item div 2"])
def test_an_expression_in_the_sql_of_spark_gets_a_hint(duckdb_sql):
    with pytest.raises(UserError, match=r"^dataset events, added: .* \(a contract is DuckDB SQL") as caught:
        check_expressions(with_column(duckdb_sql))
    assert "\n" not in str(caught.value)


def test_backticks_are_refused_in_one_line():
    message = "^dataset events: exposed_at_ms: a contract is DuckDB SQL: write names in double quotes, not in backticks"
    with pytest.raises(ValueError, match=message):
        replace(EVENTS, exposed_at_ms="log.`ts`").check()


def test_an_expression_may_end_in_a_comment():
    def commented(duckdb_sql: str) -> str:
        return f"{duckdb_sql} -- it's a :) comment"

    outcomes = [replace(o, condition=commented(o.condition), at_ms=commented("log.ts + 5")) for o in EVENTS.outcomes]
    dataset = replace(
        with_column(commented("log.item")),
        outcomes=tuple(outcomes),
        refusals=(Refusal("no order", commented("log.order = 0")),),
        user_id=replace(EVENTS.user_id, duckdb_sql=commented(EVENTS.user_id.duckdb_sql)),
        **{name: commented(getattr(EVENTS, name)) for name in ("exposed_at_ms", "is_exposure", "channel", "cost")},
    )
    dataset.check()
    check_expressions(dataset)
    rows = log_rows(typed(EVENTS.log, view(), {"ts": NOON, "event": "addtocart"}, view(order=0)), dataset, {})
    assert rows.column(REASON).to_pylist() == [None, None, "no order"]
    assert rows.column("exposed_at_ms").to_pylist() == [NOON, NOON + 5, None]


@pytest.mark.parametrize("name", ["item_condition", "refusal_code", "heat_ms"])
def test_a_text_column_may_have_the_name_of_another_kind(name):
    column = Derived(Column(name, "string", "of the test", Known.NEVER), "log.visitor::varchar")
    check_expressions(replace(EVENTS, columns=(*EVENTS.columns, column)))


def test_the_select_of_a_lookup_keeps_one_row_of_a_key(tmp_path):
    items = RawFile("items", ("items*.csv",), (RawColumn("no"), RawColumn("tag", "string"), RawColumn("unused")))
    (tmp_path / "items.csv").write_text("no,tag,unused\n1,a b,5\n2,c,5\n")
    files = {"items": RawFiles(items, (tmp_path / "items.csv",))}
    lookup = Lookup(items, "no", "item", "item", "SELECT *, length(tag) AS size FROM items")
    dataset = replace(with_column("items.size"), lookups=(lookup,))
    lookups = read_lookups(dataset, files)
    assert lookups["items"].column_names == ["no", REASON, "size"]  # no more is sent to the workers
    rows = log_rows(typed(EVENTS.log, view(item=2), view(item=3), view(item=1)), dataset, lookups)
    assert rows.column("added").to_pylist() == [1, None, 3]
    assert rows.column(REASON).to_pylist() == [None, "unknown item", None]
    repeated = replace(lookup, duckdb_sql="SELECT *, unnest(split(tag, ' ')) AS size FROM items")
    with pytest.raises(UserError, match=r"^dataset events, the SELECT of a lookup: it has more than one row of a no$"):
        read_lookups(replace(dataset, lookups=(repeated,)), files)


def test_the_database_of_a_second_process_reads_times_in_the_same_way():
    assert _database(-1).execute("SET TimeZone = 'Etc/GMT-1'; SELECT epoch(DATE '1970-01-02')").fetchone() == (82800,)
    assert _database(-2).execute("SET TimeZone = 'Etc/GMT-1'; SELECT epoch(DATE '1970-01-02')").fetchone() == (82800,)


def test_the_epoch_of_an_interval_is_its_length():
    assert time_of("epoch_ms(log.sent::timestamptz - timestamptz '2022-04-22 00:00Z')", "2022-04-22 00:00:02Z") == 2000
    assert time_of("epoch(INTERVAL 2 HOUR)", "") == 7200
