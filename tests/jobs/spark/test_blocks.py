"""Rows that are sent in blocks arrive in their partitions, in their order."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from jobs.spark.blocks import Block, blocks_by_partition, rows_by_kind

SCHEMA = pa.schema([("row", pa.int64()), ("text", pa.string())])


@given(st.lists(st.integers(0, 5), max_size=50))
def test_every_row_arrives_once_in_the_order_of_its_table(partitions):
    rows = pa.table({"row": range(len(partitions)), "text": [f"{p}" for p in partitions]}, schema=SCHEMA)
    sent = [*blocks_by_partition("rows", rows, np.array(partitions, np.int64))]
    assert sorted(partition for partition, _ in sent) == sorted(set(partitions))
    for partition, block in sent:
        arrived = rows_by_kind([block, Block("other", 7)], {"rows": SCHEMA, "none": SCHEMA})
        assert arrived["rows"].to_pylist() == [row for row in rows.to_pylist() if row["text"] == f"{partition}"]
        assert arrived["none"].equals(SCHEMA.empty_table())


def test_blocks_of_a_kind_are_joined_in_their_order():
    blocks = [
        block
        for number in range(3)
        for _, block in blocks_by_partition("rows", pa.table([[number], [""]], schema=SCHEMA), np.zeros(1, np.int64))
    ]
    assert rows_by_kind(blocks, {"rows": SCHEMA})["rows"].column("row").to_pylist() == [0, 1, 2]
