"""The contract of every dataset is consistent, and no input is derived from a column that is never known."""

from dataclasses import replace

import pytest

from schemas.candidates import ImpliedLabel, SessionEnd, Sessions
from schemas.contract import Column, Known, Role
from schemas.dataset import Dataset, dataset_names, get_dataset
from schemas.errors import UserError
from schemas.steps import feature_inputs, input_columns, last_column, outcome_columns, profile_inputs
from schemas.tables.exposures import exposures
from schemas.tables.journeys import journeys

DATASETS = dataset_names()


def test_the_published_datasets_are_registered():
    assert {"kuairand", "criteo"} <= set(DATASETS)


def test_an_unknown_dataset_is_one_clear_line():
    with pytest.raises(UserError, match="unknown dataset 'nope': choose one of criteo, kuairand"):
        get_dataset("nope")


@pytest.mark.parametrize("name", DATASETS)
def test_names_are_unique_and_documented(name):
    dataset = get_dataset(name)
    for table in (exposures(dataset), journeys(dataset)):
        assert len(set(table.column_names)) == len(table.columns)
        assert all(c.doc and c.dtype for c in table.columns)
        assert set(table.key) <= set(table.column_names)
    steps = [c.name for c in (*outcome_columns(dataset), *input_columns(dataset), *profile_inputs(dataset))]
    assert len(set(steps)) == len(steps)


@pytest.mark.parametrize("name", DATASETS)
def test_inputs_come_only_from_what_is_known(name):
    dataset = get_dataset(name)
    own_inputs = {c.name for c in (*feature_inputs(dataset), *profile_inputs(dataset))}
    for derived in dataset.columns:
        column = derived.column
        if column.known is not Known.BEFORE:
            assert column.name not in own_inputs  # never the present value
        if column.known in (Known.AT, Known.NEVER):
            assert last_column(column.name) not in own_inputs


@pytest.mark.parametrize("name", ["kuairand", "criteo"])
def test_every_raw_column_is_read_or_left_out_on_purpose(name):
    """A raw column that nothing reads was forgotten, or is left out for a reason."""
    dataset = get_dataset(name)
    sql = " ".join(
        [d.duckdb_sql for d in (dataset.user_id, *dataset.columns)]
        + [
            dataset.exposed_at_ms,
            dataset.channel,
            dataset.cost,
            dataset.propensity,
            *(r.duckdb_sql for r in dataset.refusals),
        ]
        + list(dataset.log_key)
    )
    unused = {c.name for c in dataset.log.columns if c.name not in sql}
    assert (
        unused
        == {
            "kuairand": {"duration_ms", "profile_stay_time", "comment_stay_time", "is_profile_enter"},
            "criteo": set(),
        }[name]
    )


def test_a_wrong_contract_does_not_load():
    with pytest.raises(ValueError, match="known 'at' and known_at go together"):
        Column("order", "int", "x", Known.AT)
    good = get_dataset("criteo")
    fields = {f: getattr(good, f) for f in Dataset.__dataclass_fields__}
    with pytest.raises(ValueError, match="declared twice"):
        Dataset(**fields | {"columns": (*good.columns, good.columns[0])})
    decimal = replace(good.user_id, column=replace(good.user_id.column, dtype="decimal(20,0)"))
    with pytest.raises(ValueError, match="a user_id is int, bigint or string"):
        replace(good, user_id=decimal)
    with pytest.raises(ValueError, match="gain click must be a column"):
        Dataset(**fields | {"columns": good.columns[1:]})
    for threshold, value, problem in (
        ("max_missing_share", {"cmapaign": 0.1}, "max_missing_share names cmapaign, which is not a column"),
        ("not_compared", {"weekdya": "a reason"}, "not_compared names weekdya, which is not a column"),
        ("excused", {"1.1.2017": "a holiday"}, "excused: '1.1.2017' is not a day"),
        ("excused", {"2017-02-30": "a holiday"}, "excused: '2017-02-30' is not a day"),
    ):
        with pytest.raises(ValueError, match=problem):
            replace(good, quality=replace(good.quality, **{threshold: value}))
    replace(good, quality=replace(good.quality, excused={"2017-01-01": "a holiday"}))
    with pytest.raises(ValueError, match="use a-z"):
        Dataset(**fields | {"name": "../x"})


@pytest.mark.parametrize("name", DATASETS)
def test_candidates_have_a_role(name):
    dataset = get_dataset(name)
    assert all(c.role is not Role.NONE for c in (*feature_inputs(dataset), *profile_inputs(dataset)))


@pytest.mark.parametrize("name", DATASETS)
def test_what_is_known_with_the_candidate_is_an_input_of_later_steps_only(name):
    dataset = get_dataset(name)
    own_inputs = {c.name for c in input_columns(dataset)}
    for column in dataset.features(Known.WITH):
        assert column.name not in own_inputs
        assert last_column(column.name) in own_inputs


def test_the_published_datasets_say_what_belongs_to_a_candidate():
    assert {c.name for c in get_dataset("kuairand").features(Known.WITH)} == {
        "video_id", "author_id", "video_type", "music_type", "tag", "video_duration_ms", "upload_type",
    }  # fmt: skip
    assert {c.name for c in get_dataset("criteo").features(Known.WITH)} == {
        "campaign", *(f"cat{k}" for k in range(1, 10))
    }  # fmt: skip


def test_a_wrong_word_about_candidates_does_not_load():
    good = get_dataset("criteo")
    by_cpo = Sessions(SessionEnd.COLUMN, "x", column="cpo")
    for field, value, problem in (
        ("sessions", by_cpo, "sessions need a column known before, not cpo"),
        ("implied_label", ImpliedLabel("click", "order"), "the implied label names order, which is not a gain"),
        ("items", ("cpo",), "item cpo must be a column known with the candidate"),
    ):
        with pytest.raises(ValueError, match=problem):
            replace(good, **{field: value})
    with pytest.raises(ValueError, match="gap_s belongs to"):
        Sessions(SessionEnd.DAY, "x", gap_s=60.0)
    with pytest.raises(ValueError, match="column belongs to"):
        Sessions(SessionEnd.COLUMN, "x")
