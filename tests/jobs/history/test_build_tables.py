"""One start of Spark builds what the commands of the stages build: the same files, and nothing again."""

import pytest
from built_lake import generate
from in_process import Jobs, files_of, rewritten

from lakehouse.lake import Lake
from schemas.tables import EXPOSURES, ITEM_HISTORY, JOURNEYS, QUARANTINE, SEQUENCES, STEPS

TABLES = (EXPOSURES, QUARANTINE, JOURNEYS, STEPS, SEQUENCES, ITEM_HISTORY)


@pytest.mark.parametrize("layout", ["kuairand", "criteo"])
def test_one_start_builds_the_same_files_as_one_for_each_stage(spark, tmp_path, monkeypatch, layout):
    raw = ("--raw", str(generate(monkeypatch, tmp_path / "raw", layout, users=30, days=3)))
    one_command, staged = (Jobs(spark, Lake(tmp_path / name), layout, monkeypatch) for name in ("together", "staged"))
    staged.ok("build_exposures", *raw)
    staged.ok("build_sequences")
    days = staged.lake.days(EXPOSURES, layout)
    one_command.ok("build_tables", *raw, "--to", days[-2])
    staged.ok("build_sequences", "--up-to", days[-1], "--journeys")
    one_command.ok("build_tables", *raw, "--up-to", days[-1], "--journeys")
    assert one_command.contexts == 2
    built = files_of(one_command.lake, *TABLES)
    assert rewritten(built, files_of(staged.lake, *TABLES)) == set()
    one_command.ok("build_tables", *raw, "--up-to", days[-1], "--journeys")
    assert one_command.contexts == 2  # fresh days need no Spark
    assert rewritten(built, files_of(one_command.lake, *TABLES)) == set()
