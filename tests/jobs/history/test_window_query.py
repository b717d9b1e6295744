"""The query of docs/architecture.md, copied from there, gathers the windows that the model's reader gathers."""

import re
from pathlib import Path

import pyarrow as pa
import pytest
from bucket_lake import BucketLake
from random_exposures import random_exposures

from mtorl_model.data.windows.reading import read_windows
from schemas.dataset import get_dataset

pytestmark = pytest.mark.lake

DOCS = Path(__file__).resolve().parents[3] / "docs" / "architecture.md"


@pytest.mark.parametrize("name", ["kuairand", "criteo"])
def test_the_documented_query_gives_the_windows_of_the_reader(tmp_path, name):
    dataset = get_dataset(name)
    lake = BucketLake(tmp_path, dataset, random_exposures(dataset, users=5, rows=110, days=4, seed=6))
    lake.publish(lake.build(lake.days), lake.days)
    (code,) = re.findall(r"`steps` that you need:\n\n```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    setting = f'LAKE, DATASET, DAY = "{tmp_path}", "{name}", "{lake.days[-1]}"'
    variables: dict = {}
    exec(re.sub("LAKE, DATASET, DAY = .*", setting, code), variables)
    windows = variables["windows"].to_arrow_table()
    tables = read_windows(lake.lake, dataset, lake.days[-1:], windows.column_names, ("a", "b"))
    expected = pa.concat_tables(tables).sort_by([("user_id", "ascending"), ("window", "ascending")])
    assert len(windows) >= 5
    assert windows.to_pylist() == expected.to_pylist()
