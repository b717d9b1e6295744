"""Days of a method of fusion, as the daily and the nightly run take them: learned, decided, scored, audited, again."""

import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from candidate_lake import CRITEO, DAYS, write_candidate_lake

from jobs.quality.audit_results import FAIL
from jobs.quality.audits import audit_partition
from lakehouse.lake import Lake
from mtorl_model import learn, score
from mtorl_model.champion.registry import Registry
from mtorl_model.methods import METHODS
from mtorl_model.train import train_champion
from schemas.tables import FUSION_EXPOSURES, FUSION_WEIGHTS, PREQUENTIAL, PROMOTIONS

pytestmark = pytest.mark.slow
TINY = {"gain_iterations": 10, "min_samples_leaf": 5, "steps": 30, "rounds": 1, "critics": 2}
LEARNED = (PREQUENTIAL, PROMOTIONS, FUSION_EXPOSURES)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of three days with a champion that was trained on the first one. Tests copy it."""
    root = tmp_path_factory.mktemp("trained") / "lake"
    lake, method = write_candidate_lake(root), METHODS["unified_rl"]
    train_champion(lake, CRITEO, DAYS[0], DAYS[0], method, method.presets("criteo")["small"].changed(TINY))
    return root


def run_day(lake: Lake, day: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the steps of both DAGs for a method and a day; the small lake has journeys of the newest day only."""
    for module in (learn, score) if day == DAYS[-1] else (learn,):
        flags = ("--dataset", "criteo", "--lake", str(lake.root), "--day", day, "--method", "unified_rl")
        monkeypatch.setattr(sys, "argv", ["command", *flags])
        module.main()


def contents(lake: Lake) -> dict[tuple[str, str], pa.Table]:
    """The rows of all days that a method of fusion has published."""
    partitions = [(table, day) for day in DAYS[1:] for table in LEARNED] + [(FUSION_WEIGHTS, DAYS[-1])]
    return {(table, day): lake[table, CRITEO, day].read() for table, day in partitions}


def test_days_are_learned_scored_and_backfilled_to_the_same_tables(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lakes = []
    for name in ("scheduled", "backfilled"):
        shutil.copytree(trained, tmp_path / name)
        lakes.append(Lake(tmp_path / name))
        for day in DAYS[1:]:
            run_day(lakes[-1], day, monkeypatch)
    scheduled, backfilled = lakes
    versions = [version.name for version in Registry(scheduled, CRITEO, "unified_rl").versions()]
    assert versions == [f"unified_rl_criteo/{number}" for number in (1, 2, 3)]
    first = contents(scheduled)
    assert contents(backfilled) == first
    for table, day in first:
        audit = audit_partition(scheduled, table, CRITEO, day)
        assert audit.verdict != FAIL, (table, day, [outcome.name for outcome in audit.failed])
        assert audit.rows > 0

    for day in DAYS[1:]:  # again: nothing is learned a second time
        run_day(scheduled, day, monkeypatch)
    assert [version.name for version in Registry(scheduled, CRITEO, "unified_rl").versions()] == versions
    assert contents(scheduled) == first
