"""The samples of a day for methods on candidates: few parts of each day's users are read."""

from collections import defaultdict

import numpy as np
import pytest
from candidate_lake import CRITEO, DAYS, write_candidate_lake

import lakehouse.lake
from lakehouse.lake import Lake
from lakehouse.storage.data_files import part_of, read_file
from mtorl_model.data.candidates.encoding import CandidateEncoder
from mtorl_model.data.candidates.reading import read_candidates
from mtorl_model.data.delayed_feedback import LabelCutoff
from mtorl_model.training.candidate_sample import CandidateSample, draw_candidates
from mtorl_model.training.config import FineTuneConfig
from schemas.splits import TRAIN

PARTS = 8
CUTOFF = LabelCutoff(CRITEO.end_of_day_ms(DAYS[2]), {})
SMALL_SAMPLE = FineTuneConfig(
    batch_size=4, max_steps=2, latest_windows=4, device="cpu"
)  # 16 new exposures a step, 16 replayed
LARGE_SAMPLE = FineTuneConfig(batch_size=64, max_steps=200, device="cpu")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return write_candidate_lake(tmp_path_factory.mktemp("parts") / "lake", parts=PARTS)


@pytest.fixture(scope="module")
def encoder(lake: Lake) -> CandidateEncoder:
    return read_candidates(lake, CRITEO, DAYS[:2])[1]


@pytest.fixture
def parts_read(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], set[str]]:
    """The parts that are read from now on, by table and day."""
    read: dict[tuple[str, str], set[str]] = defaultdict(set)

    def noted(folder, file, columns=None):
        read[folder.name, file.path.partition("/")[0].removeprefix("ds=")].add(part_of(file))
        return read_file(folder, file, columns)

    monkeypatch.setattr(lakehouse.lake, "read_file", noted)
    return read


def draw(lake: Lake, encoder: CandidateEncoder, config: FineTuneConfig) -> CandidateSample:
    return draw_candidates(lake, encoder, CRITEO, DAYS[2], list(DAYS[:2]), config, CUTOFF, with_latest=True)


def test_a_sample_of_large_days_reads_few_parts_of_each(lake, encoder, parts_read):
    sample = draw(lake, encoder, SMALL_SAMPLE)
    assert sample.replayed_days == DAYS[:2]
    for table in ("exposures", "steps"):
        for day in DAYS:
            assert 1 <= len(parts_read[table, day]) <= 4, (table, day)  # for `new` or the replay, and for `latest`
    assert 16 < len(sample.new) <= 32
    assert 16 < len(sample.replay) <= 32
    assert len(sample.latest) == 32


def test_a_sample_of_small_days_reads_all_training_users(lake, encoder, parts_read):
    sample = draw(lake, encoder, LARGE_SAMPLE)
    expected = [read_candidates(lake, CRITEO, [day], encoder, CUTOFF, TRAIN)[0].exposure_id_N for day in DAYS]
    assert sorted(sample.new.exposure_id_N) == sorted(expected[2])
    assert sorted(sample.latest.exposure_id_N) == sorted(np.concatenate(expected))
