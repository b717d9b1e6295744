"""Types and null tokens of a column."""

import pytest

from jobs.draft.values import column_sample


@pytest.mark.parametrize(
    ("name", "texts", "dtype", "null_tokens"),
    [
        ("n", ["1", "-2", " 3"], "bigint", set()),
        ("n", ["1", "", "NULL"], "bigint", {"", "NULL"}),
        ("n", ["1", "\\N", "NA"], "bigint", {"\\N", "NA"}),
        ("country", ["NA", "DE", "null"], "string", {"null"}),  # Namibia
        ("price", ["1", "2.5", "1e3"], "double", set()),
        ("price", ["10.0", "11.0"], "double", set()),
        ("user_id", ["10.0", "11.0"], "bigint", set()),  # saved by a tool that has no whole numbers with gaps
        ("zip", ["01067", "10115"], "string", set()),  # a number would lose the zero
        ("id", ["10000174058809263569", "1"], "string", set()),  # longer than 64 bits
        ("price", ["1,5", "2,25"], "string", set()),
        ("x", ["", ""], "string", {""}),
        ("x", ["one", "1"], "string", set()),
    ],
)
def test_the_type_and_null_tokens_follow_from_the_texts(name, texts, dtype, null_tokens):
    column = column_sample(name, texts)
    assert (column.dtype, column.null_tokens) == (dtype, frozenset(null_tokens))


def test_rare_texts_among_numbers_are_unreadable_and_named():
    column = column_sample("price", ["1"] * 500 + ["free", "free", "n.a."])
    assert column.dtype == "bigint"
    assert column.unreadable == ("free", "n.a.")
    assert column_sample("price", ["1"] * 5 + ["free"]).dtype == "string"


@pytest.mark.parametrize(
    ("texts", "is_flag", "true_share"),
    [
        (["0", "1", "1", "0"], True, 0.5),
        (["0", "0"], True, 0.0),
        (["true", "False"], True, 0.5),
        (["yes", "no", "", "no"], True, 0.25),
        (["1.0", "0.0"], True, 0.5),
        (["1", "2"], False, 0.0),
        (["true", "maybe"], False, 0.0),
        (["yes", "yes"], False, 0.0),
        (["", ""], False, 0.0),
    ],
)
def test_a_flag_is_yes_or_no(texts, is_flag, true_share):
    column = column_sample("clicked", texts)
    assert (column.is_flag, column.true_share) == (is_flag, true_share)


def test_a_number_that_stands_for_missing_is_noticed():
    assert column_sample("pos", ["-1", "3", "7", "-1"]).usual_missing_number == "-1"
    assert column_sample("pos", ["-1", "-2", "3", "7"]).usual_missing_number is None
    assert column_sample("pos", ["1", "3", "7"]).usual_missing_number is None


def test_decimal_commas_are_noticed():
    assert column_sample("price", ["1,5", "2"]).has_decimal_commas
    assert not column_sample("price", ["1", "2"]).has_decimal_commas
    assert not column_sample("tags", ["1,5,6", "2"]).has_decimal_commas
