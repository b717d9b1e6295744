"""Made-up journeys are as long as those of the samples, and the nightly scoring reads them."""

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from small_champion import shrink_champions

from benchmarks.inputs.made_up_journeys import DAY, publish_champion, publish_journeys, spec_of_all_candidates
from lakehouse.lake import Lake
from mtorl_model.champion.registry import Registry
from mtorl_model.data.encoding import Encoder
from mtorl_model.data.windows.next_steps import journey_columns
from mtorl_model.score import score_day
from schemas.dataset import get_dataset
from schemas.steps import MEMORY_STEPS


@pytest.mark.slow
@pytest.mark.parametrize(("name", "full_windows"), [("criteo", 0.179), ("kuairand", 0.463)])
def test_journeys_have_the_length_of_the_samples_and_the_columns_that_the_model_reads(tmp_path, name, full_windows):
    lake, dataset = Lake(tmp_path), get_dataset(name)
    spec = spec_of_all_candidates(dataset)
    publish_journeys(lake, dataset, spec, 5_000)
    files = lake["journeys", name, DAY].files()
    tables = [pq.ParquetFile(file).read() for file in files]
    length = np.concatenate([pc.list_value_length(table.column("memory")).to_numpy() for table in tables])
    ids = np.concatenate([table.column("user_id").to_numpy() for table in tables])
    assert sorted(ids) == list(range(5_000))
    assert (length.min(), length.max()) == (10, MEMORY_STEPS)
    assert (length >= 19).mean() == pytest.approx(full_windows, abs=0.03)
    paths = {pq.ParquetFile(files[0]).schema.column(k).path for k in range(len(pq.ParquetFile(files[0]).schema))}
    for column in journey_columns(spec, dataset):
        assert any(path == column or path.startswith(f"{column}.") for path in paths), column
    assert len(Encoder(spec, dataset).sizes.vocabulary) > 10


@pytest.mark.slow
def test_only_repaired_journeys_are_predicted_again(tmp_path, capsys, monkeypatch):
    shrink_champions(monkeypatch)
    lake, dataset = Lake(tmp_path), get_dataset("criteo")
    spec = spec_of_all_candidates(dataset)
    publish_champion(lake, dataset, spec, "small")
    publish_journeys(lake, dataset, spec, 200)
    assert [m.rows for m in score_day(Registry(lake, dataset), DAY)] == [200, 200, len(spec.channels)]
    publish_journeys(lake, dataset, spec, 200, repaired=2)
    score_day(Registry(lake, dataset), DAY)
    assert "198 of 200 predictions reused" in capsys.readouterr().out
