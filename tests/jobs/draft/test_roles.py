"""Candidates for user, time, channel, gains and key."""

from jobs.draft import roles
from jobs.draft.times import time_notation
from jobs.draft.values import column_sample


def columns_of(**texts):
    return [column_sample(name, list(values)) for name, values in texts.items()]


def times_of(columns):
    return {c.name: notation for c in columns if (notation := time_notation(c))}


def names(candidates):
    return [candidate.column for candidate in candidates]


def test_the_time_of_the_exposure_comes_before_that_of_the_outcome_and_before_a_date():
    columns = columns_of(
        day=["2024-03-31"] * 3,
        converted_at=["", "2024-03-31T10:00:00Z", ""],
        sent_at=["2024-03-31T09:00:00Z", "2024-03-31T09:05:00Z", "2024-03-31T09:07:00Z"],
    )
    assert names(roles.time_candidates(columns, times_of(columns)))[0] == "sent_at"


def test_a_user_is_named_like_a_person_and_a_session_or_a_browser_is_not():
    repeated = [f"u{k % 30}" for k in range(90)]
    columns = columns_of(
        session_id=[f"s{k % 60}" for k in range(90)],
        useragent=[f"Mozilla/{k % 9}" for k in range(90)],
        user_feature_0=[f"f{k % 9}" for k in range(90)],
        visitorid=repeated,
    )
    candidates = roles.user_candidates(columns, set())
    assert names(candidates) == ["visitorid", "session_id"]
    assert candidates[0].reason == "30 different values in 90 rows, and its name means a person or a device"


def test_a_column_of_another_name_may_be_the_user_if_its_values_come_again():
    columns = columns_of(
        creative=[f"c{k % 25}" for k in range(200)],
        kunde=[f"k{k % 40}" for k in range(200)],
        preis=[f"{k % 50},5" for k in range(200)],
        price_micros=[str(1000 + k % 50) for k in range(200)],
        receipt=[f"r{k}" for k in range(200)],
        tab=[str(k % 5) for k in range(200)],
    )
    candidates = roles.user_candidates(columns, set())
    assert names(candidates) == ["kunde", "creative"]
    assert candidates[0].score < roles.LIKELY_USER  # a question for a person


def test_a_user_id_that_stands_for_all_unknown_users_is_noticed():
    known = [f"d{k}" for k in range(100)]
    (column,) = columns_of(device_id=["a99f214a"] * 100 + known)
    assert roles.usual_placeholder(column) == "a99f214a"
    assert roles.usual_placeholder(columns_of(device_id=known * 2)[0]) is None


def test_a_channel_has_few_values_and_no_flag_is_one():
    columns = columns_of(
        price=["1.5", "2.5", "3.5", "1.5"] * 5,
        gender=["0", "1", "1", "0"] * 5,
        campaign=["a", "b", "c", "a"] * 5,
        placement=["top", "side", "top", "side"] * 5,
        note=[f"note {k}" for k in range(20)],
    )
    candidates = roles.channel_candidates(columns, set())
    assert names(candidates) == ["placement", "campaign"]
    assert candidates[0].reason == "2 values: top, side"


def test_gains_are_named_outcomes_and_their_complements_come_last():
    columns = columns_of(
        nonclk=["1", "1", "0", "1"],
        clk=["0", "0", "1", "0"],
        gender=["0", "1", "0", "1"],
        bought=["no", "no", "no", "yes"],
    )
    assert names(roles.gain_candidates(columns, set())) == ["clk", "bought", "nonclk"]


def test_rows_of_views_and_purchases_are_recognised():
    events = roles.event_column(columns_of(event=["view", "view", "addtocart", "transaction"]))
    assert events == roles.Events("event", ("view",), ("addtocart", "transaction"))
    events = roles.event_column(columns_of(evt=["shown", "tapped", "hovered", "liked", "views", "opened"]))
    assert events == roles.Events("evt", ("shown", "views"), ("tapped", "liked", "opened"), ("hovered",))
    assert roles.event_column(columns_of(event=["view", "view"])) is None
    assert roles.event_column(columns_of(colour=["view", "click"])) is None


def test_an_outcome_shares_the_item_with_its_exposure_and_not_the_category_or_the_receipt():
    events = roles.Events("event", ("view",), ("buy",))
    columns = columns_of(
        event=["view", "buy"] * 40,
        user=[f"u{k // 2 % 9}" for k in range(80)],
        category=[f"c{k // 2 % 6}" for k in range(80)],
        item=[f"i{k // 2 % 20}" for k in range(80)],
        receipt=[f"r{k}" for k in range(80)],  # different in the exposure and its outcome
        visit_id=[f"v{k // 2}" for k in range(80)],
    )
    assert roles.outcome_match(columns, "user", events, set()) == ("user", "item")
    assert roles.outcome_match(columns[:2], "user", events, set()) == ("user",)


def test_the_key_is_the_time_with_an_id_or_as_few_columns_as_separate_the_rows():
    columns = columns_of(
        user=["a", "a", "a", "b"], ts=["1", "1", "2", "1"], slot=["x", "y", "x", "x"], note=["p", "q", "p", "p"],
        click=["0", "1", "0", "0"],
    )  # fmt: skip
    assert roles.key_columns(columns, "user", "ts", {"click"}) == roles.Key(("user", "ts", "slot"), 0)
    assert roles.key_columns(columns[:2], "user", "ts", set()) == roles.Key(("user", "ts"), 1)
    with_id = [*columns, *columns_of(bidid=["b0", "b1", "b2", "b3"])]
    assert roles.key_columns(with_id, "user", "ts", {"click"}) == roles.Key(("bidid", "ts"), 0)
    with_gap = [*columns, *columns_of(ad_id=["1", "2", "3", ""])]
    assert roles.key_columns(with_gap, "user", "ts", {"click"}).columns == ("user", "ts", "slot")


def test_a_profile_is_constant_for_each_user():
    user, age, page = columns_of(
        user=[f"u{k % 30}" for k in range(60)],
        age=[str(20 + k % 30 % 7) for k in range(60)],
        page=[str(k % 7) for k in range(60)],
    )
    assert roles.is_constant_per_user(age, user)
    assert not roles.is_constant_per_user(page, user)


def test_a_key_is_never_the_time_alone():
    columns = columns_of(
        ts=[str(k) for k in range(120)],
        place=[f"p{k % 3}" for k in range(120)],
        auction=[f"{k:04x}" for k in range(120)],
        click=["0", "1"] * 60,
    )
    assert roles.key_columns(columns, None, "ts", {"click"}) == roles.Key(("ts", "auction"), 0)
    assert roles.key_columns(columns, "place", "ts", {"click"}) == roles.Key(("place", "ts", "auction"), 0)
    assert roles.key_columns(columns[:2], None, "ts", set()) == roles.Key(("ts", "place"), 0)


def test_words_of_events_are_recognised_under_any_name_if_there_are_no_others():
    assert roles.event_column(columns_of(what=["impression", "tap", "subscribe"])) is not None
    assert roles.event_column(columns_of(what=["impression", "tap", "hover"])) is None


def test_an_account_is_a_user_and_a_count_is_none():
    columns = columns_of(account=["a", "b"] * 20, user_count=["1", "2"] * 20)
    assert names(roles.user_candidates(columns, set())) == ["account"]
