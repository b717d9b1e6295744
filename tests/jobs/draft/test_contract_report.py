"""The report on a tried contract: figures, reasons, columns and warnings, from tables made by hand."""

import pyarrow as pa
from event_logs import EVENTS
from shop import SHOP

from jobs.draft.contract_report import report_lines

NO_TIME = SHOP.refusals[0].reason
RAW_TEXTS = pa.table({
    "customer": ["ann", "ann", "bob", "bob", None],
    "sent": ["2024-03-30T23:30:00Z", "2024-03-31T09:00:00Z", "2024-03-31T08:00:00Z", "yesterday", None],
    "medium": ["mail", "sms", "push", "push", "push"],
    "price": [0.1, 0.5, None, 0.0, 0.2],
    "opened": [1, 0, 1, 1, 0],
    "bought": ["2024-03-31T10:00:00Z", None, None, None, None],
    "age": [41, 41, None, None, None],
    "_reason": [None, None, "price is not a number: free", None, "customer is missing"],
    "_raw": [b"a", b"b", b"bob;x;push;free;1;;", b"d", b"e"],
    "_source_file": ["sent-2024.txt"] * 5,
})  # fmt: skip


def exposures_of(**changes) -> pa.Table:
    columns = {
        "user_id": ["ann", "ann", None, None, None],
        "exposure_id": [1, 2, 3, 4, 5],
        "exposed_at_ms": [1, 2, None, None, None],
        "channel": ["mail", "sms", None, None, None],
        "open": [1, 0, None, None, None],
        "order": [1, 0, None, None, None],
        "order_at_ms": [3, None, None, None, None],
        "cost": [0.1, 0.5, None, None, None],
        "age": [41.0, 43.0, None, None, None],
        "ds": ["2024-03-31", "2024-03-31", "2024-03-31", None, "2024-03-31"],
        "_reason": [None, None, "price is not a number: free", NO_TIME, "customer is missing"],
        "_raw": RAW_TEXTS.column("_raw"),
    }
    return pa.table(columns | changes)


def report(rows: pa.Table) -> list[str]:
    return list(report_lines(SHOP, RAW_TEXTS, rows))


def test_the_fate_of_every_row_is_counted_with_its_reason():
    lines = report(exposures_of())
    assert lines[:5] == [
        "shop: the first 5 rows of sent-2024.txt",
        "  2 exposures of 1 user",
        f"  0 duplicates: equal in {', '.join(SHOP.log_key)}",
        "  3 refused",
        "  1 day, 2024-03-31 to 2024-03-31, on the clocks of Europe/Berlin",
    ]
    start = lines.index("refused:")
    assert [" ".join(line.split()) for line in lines[start + 1 : start + 4]] == [
        "1 price is not a number for example: free",
        f"1 {NO_TIME} for example: d",
        "1 customer is missing for example: e",
    ]


def test_each_column_has_its_missing_and_unreadable_share_and_examples():
    lines = report(exposures_of())
    by_name = {
        line.split()[0]: " ".join(line.split()) for line in lines[lines.index("columns of the files:") + 1 :] if line
    }
    assert by_name["price"] == "price double unreadable 20.0% 4 values 0.1, 0.5, 0.0"
    assert by_name["customer"] == "customer string missing 20.0% 2 values ann, bob"
    assert by_name["channel"] == "channel channel complete 2 values: mail 50.0%, sms 50.0%"
    assert by_name["age"] == "age known before, static complete 41 to 43, mean 42"
    assert by_name["order"].startswith("order gain, known at complete")


def test_duplicates_are_the_rows_with_an_equal_key_on_one_day():
    lines = report(exposures_of(exposure_id=[1, 1, 3, 4, 5]))
    assert lines[1:3] == ["  1 exposure of 1 user", f"  1 duplicate: equal in {', '.join(SHOP.log_key)}"]
    assert "warning: 50.0% of the exposures are duplicates: is log_key complete?" in lines


def test_a_contract_that_fits_badly_is_warned_about():
    quiet = "\n".join(report(exposures_of(user_id=["ann", "ann", None, None, None])))
    assert "warning" not in quiet
    lines = report(
        exposures_of(
            user_id=["ann", "bob", None, None, None],
            channel=["mail", "mail", None, None, None],
            order=[0, 0, None, None, None],
        )
    )
    assert lines[-3:] == [
        "warning: no user occurs twice in these rows: is user_id the right column?",
        "warning: 1 channel in these rows: a policy needs at least two to choose from",
        "warning: order is 1 in 0.0% of the exposures: is it the right column?",
    ]
    refused = exposures_of(_reason=[NO_TIME] * 5)
    assert report(refused)[-1] == "warning: no exposure at all: look at the reasons above"


def exposures_with(price: list, age: list) -> pa.Table:
    """Exposures of which every fourth has an order later on, with the prices and ages repeated as often."""
    n = 100
    return pa.table({
        "user_id": [f"c{k % 9}" for k in range(n)],
        "exposure_id": list(range(n)),
        "exposed_at_ms": list(range(n)),
        "channel": [("mail", "mail", "sms", "push")[k % 4] for k in range(n)],
        "open": [k % 3 // 2 for k in range(n)],
        "order": [int(k % 4 == 0) for k in range(n)],
        "order_at_ms": [k if k % 4 == 0 else None for k in range(n)],
        "cost": price * (n // 4),
        "age": pa.array(age * (n // 4), pa.float64()),
        "ds": ["2024-03-31"] * n,
        "_reason": pa.nulls(n, pa.string()),
        "_raw": [b""] * n,
    })  # fmt: skip


def test_a_column_that_shows_an_outcome_before_it_is_known_is_warned_about():
    warning = (
        "warning: age is known earlier than order, and is missing or 0 wherever order is 0: it tells the outcome. "
    )
    for values in ([41.0, None, None, None], [41.0, 0.0, None, 0.0]):
        lines = report(exposures_with([0.1] * 4, values))
        assert [line for line in lines if line.startswith("warning")] == [warning + "Is it Known.NEVER?"]
    for values in ([41.0, 20.0, None, None], [None] * 4, [41.0] * 4):
        assert "warning" not in "\n".join(report(exposures_with([0.1] * 4, values)))


def test_a_column_that_tells_the_channel_before_it_is_chosen_is_warned_about():
    line = "warning: age is known before, and tells the channel: delete it, or is it Known.WITH?"
    assert report(exposures_with([0.1] * 4, [1.0, 1.0, 2.0, 3.0]))[-1] == line
    assert line not in report(exposures_with([0.1] * 4, [1.0, 1.0, 2.0, 2.0]))


def test_outcomes_are_counted_by_gain_and_a_contract_that_joins_none_is_warned_about():
    rows = pa.table({
        "user_id": [1, 1, 2, None, None],
        "exposure_id": [1, 2, 3, 4, 5],
        "exposed_at_ms": [1, 2, 3, 4, 5],
        "channel": ["a", "b", "a", None, None],
        "cart": pa.array([1, 0, 0, None, None], pa.int32()),
        "cart_at_ms": pa.array([4, None, None, None, None], pa.int64()),
        "buy": pa.array([0, 0, 0, None, None], pa.int32()),
        "buy_at_ms": pa.nulls(5, pa.int64()),
        "cost": [0.0, 0.0, 0.0, None, None],
        "ds": ["2024-05-01"] * 5,
        "_reason": pa.nulls(5, pa.string()),
        "_raw": [b""] * 5,
        "_outcome": [None, None, None, "cart", "cart"],
        "_joined": [None, None, None, "joined", "duplicate"],
    })  # fmt: skip
    sample = pa.table({
        "ts": [1], "visitor": [1], "event": ["view"], "item": [1], "order": pa.nulls(1, pa.int64()),
        "_reason": pa.nulls(1, pa.string()), "_source_file": ["events.csv"],
    })  # fmt: skip
    lines = list(report_lines(EVENTS, sample, rows, {"buy": 2}))
    assert lines[1:6] == [
        "  3 exposures of 2 users", "  1 duplicate: equal in visitor, ts, item", "  1 outcome: cart 1",
        "  2 outcomes whose exposures are not among these rows", "  0 refused",
    ]  # fmt: skip
    assert lines[-1] == "warning: no buy belongs to an exposure of these rows: are its match and its time right?"
    assert list(report_lines(EVENTS, sample, rows))[-1] == "warning: no row reports buy: is its condition right?"


def test_control_characters_of_the_log_do_not_reach_the_terminal():
    rows = exposures_of(channel=["\x1b[31mred", "sms", None, None, None])
    assert all(line.isprintable() for line in report(rows))
