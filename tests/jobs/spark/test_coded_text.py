"""Texts as codes: what is stored or sent follows from the rows, not from how their texts were numbered."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from jobs.spark.blocks import blocks_by_partition, rows_by_kind
from jobs.spark.coded_text import CODED_TEXT, coded_in_row_order, keeping_codes, with_coded_text

TEXTS = st.lists(st.sampled_from(["a", "b", "ä", "", None]), max_size=20)


def in_order_of(codes: list[str], texts: list[str | None]) -> pa.DictionaryArray:
    """The texts, numbered in the order of `codes`."""
    numbers = [None if text is None else codes.index(text) for text in texts]
    return pa.DictionaryArray.from_arrays(pa.array(numbers, pa.int32()), pa.array(codes))


@given(texts=TEXTS, codes=st.permutations(["a", "b", "ä", "", "in no row"]), cut=st.integers(0, 20))
def test_the_codes_follow_from_the_rows(texts, codes, cut):
    reordered = in_order_of(["in no row", "", "ä", "b", "a"], texts[cut:])
    rows = pa.table({"text": pa.chunked_array([in_order_of(codes, texts[:cut]), reordered])})
    (coded,) = coded_in_row_order(rows).column("text").chunks or [pa.array([], CODED_TEXT)]
    assert coded.to_pylist() == texts
    assert coded.dictionary.to_pylist() == list(dict.fromkeys(text for text in texts if text is not None))


def test_a_block_has_no_text_of_the_other_blocks():
    """Or a column whose texts are all different would be sent once to each partition."""
    texts = [f"text {k}" for k in range(1000)]
    rows = pa.table({"text": pa.array(texts).dictionary_encode()})
    blocks = dict(blocks_by_partition("rows", rows, pa.array([k % 8 for k in range(1000)]).to_numpy()))
    assert sum(len(block.content) for block in blocks.values()) < 2 * sum(map(len, texts)) + 8 * 2_000
    received = rows_by_kind(blocks.values(), {"rows": rows.schema})["rows"].column("text").to_pylist()
    assert sorted(received) == sorted(texts)


def test_only_texts_are_coded_and_only_coded_rows_stay_coded():
    schema = pa.schema([("user_id", pa.string()), ("channel", pa.string()), ("click", pa.int32())])
    coded = with_coded_text(schema, plain=("user_id",))
    assert coded.types == [pa.string(), CODED_TEXT, pa.int32()]
    assert keeping_codes(schema, coded.empty_table()) == coded
    assert keeping_codes(schema, schema.empty_table()) == schema
