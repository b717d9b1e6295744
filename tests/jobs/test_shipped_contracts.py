"""The contracts that come with the project read every row of real samples of their logs. Skipped without them."""

from collections import Counter
from pathlib import Path

import pytest

from jobs.check_contract.__main__ import first_rows
from jobs.raw.files import find_raw_files
from jobs.raw.reader.typed_rows import REASON
from schemas.dataset import get_dataset

SHARED = Path(__file__).resolve().parents[3] / "shared"
SAMPLES = {
    "open_bandit_random": (SHARED / "data" / "obd", 10_000),
    "open_bandit_bts": (SHARED / "data" / "obd", 10_000),
    "rees46": (SHARED / "data" / "rees46", 5_019),
    "retailrocket": (SHARED / "cases" / "32-retailrocket" / "raw", 179),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_every_row_of_a_real_sample_is_readable(name):
    folder, rows = SAMPLES[name]
    if not folder.is_dir():
        pytest.skip(f"needs the sample in {folder.relative_to(SHARED.parent)}")
    dataset = get_dataset(name)
    log = find_raw_files(dataset, folder)[dataset.log.view]
    sample = first_rows(log, 20_000)
    assert len(log.paths) == 1
    assert Counter(sample.column(REASON).to_pylist()) == {None: rows}


def test_the_propensities_of_the_random_log_are_those_of_its_items():
    dataset = get_dataset("open_bandit_random")
    folder, rows = SAMPLES["open_bandit_random"]
    if not folder.is_dir():
        pytest.skip(f"needs the sample in {folder.relative_to(SHARED.parent)}")
    sample = first_rows(find_raw_files(dataset, folder)["log"], rows)
    assert set(sample.column("propensity_score").to_pylist()) == {1 / len(dataset.channels)}
    assert {str(item) for item in sample.column("item_id").to_pylist()} == set(dataset.channels)
