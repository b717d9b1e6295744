"""The check of a lake: every kind of damage is a line with its remedy, and repaired days can be built again."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from audit_samples import spec_of

from jobs.drift.results import Drift, store_drift
from jobs.quality.audit_results import Audit, store_audit
from jobs.quality.consumer_files import update_consumer_file
from jobs.reports.summaries import Summary, store_summary
from jobs.verify import __main__ as verify
from jobs.verify.findings import Findings
from jobs.verify.results import check_results
from jobs.verify.tables import check_tables
from lakehouse import lineage
from lakehouse.feature_specs import store_spec
from lakehouse.lake import Lake
from lakehouse.storage.delta_table import present_files
from lakehouse.storage.files import write_whole
from lakehouse.storage.scratch import work_folder
from schemas.dataset import get_dataset
from schemas.errors import UserError

DAYS = ("2022-05-01", "2022-05-02")
KUAIRAND = get_dataset("kuairand")
SPEC = spec_of(KUAIRAND)


def publish(lake: Lake, table: str, day: str) -> None:
    with work_folder() as work:
        for k in range(2):
            pq.write_table(pa.table({"text": [f"{table} {day} {k}"] * 100}), work / f"part-{k}.parquet")
        lake[table, KUAIRAND, day].publish(work, inputs={}, code="c")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Three tables on two days, and a result of each kind."""
    lake = Lake(tmp_path / "lake")
    for day in DAYS:
        for table in ("exposures", "promotions", "channel_policies"):
            publish(lake, table, day)
        partition = lake["channel_policies", KUAIRAND, day]
        store_audit(lake, Audit("channel_policies", "kuairand", day, 200, partition.manifest.fingerprint, (), ()))
        update_consumer_file(partition)
    store_drift(lake, Drift("kuairand", DAYS[0], (), (), {}))
    store_summary(lake, KUAIRAND, Summary(DAYS[0], "pass", "", ()))
    store_spec(lake, SPEC)
    write_whole(lake.table("champion", KUAIRAND) / "feature_spec.json", SPEC.to_json())
    write_whole(lake.table("model_lineage", KUAIRAND) / "mtorl_kuairand-1.json", "{}")
    return lake


@pytest.fixture
def verified(lake, monkeypatch, capsys) -> Callable[..., list[str]]:
    """Runs the command; returns its exit status and its lines."""

    def run(*arguments: str) -> tuple[int, list[str]]:
        monkeypatch.setattr(lineage, "_latest_content", {})  # as in a new process
        monkeypatch.setattr(sys, "argv", ["verify", "--dataset", "kuairand", "--lake", str(lake.root), *arguments])
        try:
            verify.main()
            status = 0
        except SystemExit as end:
            status = end.code
        return status, capsys.readouterr().out.splitlines()

    return run


def test_a_whole_lake_is_one_line_of_counts(verified):
    status, lines = verified()
    assert status == 0
    (line,) = lines
    assert line.startswith("kuairand: 0 damaged of 4 tables, 13 files (")
    assert line.endswith(
        "6 partitions, 1 feature specs, 2 audits, 1 drifts, 1 summaries, 1 lineages of models, "
        "1 specs of the champion, 2 files for consumers"
    )


def test_a_lake_without_tables_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["verify", "--dataset", "kuairand", "--lake", str(tmp_path / "none")])
    with pytest.raises(UserError, match="no tables in"):
        verify.main()


def data_file(lake: Lake, table: str) -> Path:
    return lake[table, KUAIRAND, DAYS[0]].files()[0]


def alter(file: Path) -> None:
    """Change one bit of the first page; the size stays."""
    content = bytearray(file.read_bytes())
    content[45] ^= 1
    file.write_bytes(bytes(content))


def alter_footer(file: Path) -> None:
    """Change the writer's name, so that the footer can still be read."""
    file.write_bytes(file.read_bytes().replace(b"parquet-cpp", b"parquet-dpp"))


def stored_metrics(lake: Lake) -> Path:
    file = lake.metrics(KUAIRAND)
    write_whole(file, '{"model_version": "mtorl_kuairand/1", "users": 1, "reward": {}}')
    return file


DAMAGE: dict[str, tuple[Callable[[Lake], Path], Callable[[Path], None], str]] = {
    "missing": (lambda lake: data_file(lake, "exposures"), Path.unlink, "is missing: make verify REPAIR=1 .*backfill"),
    "cut": (lambda lake: data_file(lake, "exposures"), lambda f: f.write_bytes(b"cut"), "3 bytes instead"),
    "altered": (lambda lake: data_file(lake, "exposures"), alter, "other content.*FROM=2022-05-01 TO=2022-05-01"),
    "altered footer": (lambda lake: data_file(lake, "exposures"), alter_footer, "other content"),
    "decision": (lambda lake: data_file(lake, "promotions"), Path.unlink, "backup: no run can make it again"),
    "manifests": (lambda lake: lake.table("lineage", KUAIRAND) / present_files(
        lake.table("lineage", KUAIRAND))["2022-05"][0].path, Path.unlink, "backup, or an earlier version"),
    "log": (lambda lake: lake.table("exposures", KUAIRAND) / "_delta_log" / f"{1:020d}.json",
            lambda file: file.write_text("{cut"), "log of .*exposures cannot be read"),
    "audit": (lambda lake: lake.audits(KUAIRAND) / "channel_policies" / f"{DAYS[0]}.json",
              lambda file: file.write_text("{"), "is damaged .*audit_table"),
    "drift": (lambda lake: lake.drift(KUAIRAND) / f"{DAYS[0]}.json", lambda f: f.write_text("[]"), "measure_drift"),
    "summary": (lambda lake: lake.reports(KUAIRAND) / f"{DAYS[0]}.json", lambda f: f.write_text("{}"), "make report"),
    "metrics": (lambda lake: stored_metrics(lake), lambda f: f.write_text("{}"), "mtorl_model.evaluate"),
    "spec": (lambda lake: lake.spec(KUAIRAND, SPEC.version), lambda f: f.write_text("{}"), "build the spec"),
    "champion": (lambda lake: lake.table("champion", KUAIRAND) / "feature_spec.json",
                 lambda f: f.write_text("{}"), "delete it; the next daily run"),
    "consumer file": (lambda lake: lake["channel_policies", KUAIRAND, DAYS[0]].consumer_file, alter, "delete it, and"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_every_kind_of_damage_is_one_line_with_advice(lake, verified, kind):
    place, damage, words = DAMAGE[kind]
    file = place(lake)
    damage(file)
    status, lines = verified()
    assert status == 1
    damaged = [line for line in lines if line.startswith("damaged: ")]
    assert len(damaged) == 1, lines
    assert str(file.parent.parent if kind == "log" else file) in damaged[0]
    assert re.search(words, damaged[0])
    assert lines[-1].startswith("kuairand: 1 damaged of ")


@pytest.mark.bucket
@pytest.mark.parametrize("change", [alter, alter_footer])
def test_an_altered_object_of_the_same_size_is_named_and_can_be_built_again(bucket, monkeypatch, capsys, change):
    lake = Lake.at(bucket)
    publish(lake, "exposures", DAYS[0])
    file, _ = lake["exposures", KUAIRAND, DAYS[0]].data_files()
    stored = lake.table("exposures", KUAIRAND) / file.path
    command = ["verify", "--dataset", "kuairand", "--lake", bucket]
    monkeypatch.setattr(sys, "argv", command)
    verify.main()
    change(stored)
    assert stored.stat().st_size == file.size
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", [*command, "--repair"])
    with pytest.raises(SystemExit):
        verify.main()
    damaged, taken_out, _ = capsys.readouterr().out.splitlines()
    assert damaged.startswith(f"damaged: {stored} has other content than was stored: make verify REPAIR=1")
    assert taken_out.endswith(f"exposures: {DAYS[0]}")
    publish(lake, "exposures", DAYS[0])
    monkeypatch.setattr(sys, "argv", command)
    verify.main()


def test_files_without_a_manifest_are_named(lake, verified, monkeypatch):
    monkeypatch.setattr(lineage, "record", lambda *_: None)
    publish(lake, "journeys", DAYS[0])
    status, lines = verified()
    assert status == 1
    assert re.search(r"journeys/ds=2022-05-01 has no manifest .*FROM=2022-05-01 TO=2022-05-01", lines[0])


def test_a_damaged_decision_is_not_taken_out(lake, verified):
    publish(lake, "decisions", DAYS[0])
    for table in ("decisions", "promotions"):
        data_file(lake, table).unlink()
    status, lines = verified("--repair")
    assert status == 1
    assert all("from a backup" in line for line in lines[:2])
    assert not any(line.startswith("taken out") for line in lines)


def test_repaired_partitions_are_missing_and_all_others_stay(lake, verified):
    data_file(lake, "exposures").unlink()
    alter(data_file(lake, "channel_policies"))
    status, lines = verified("--repair")
    assert status == 1
    assert [line for line in lines if line.startswith("taken out")] == [
        f"taken out of {lake.table(table, KUAIRAND)}: {DAYS[0]}" for table in ("channel_policies", "exposures")
    ]
    assert verified()[0] == 0
    assert lake.days("exposures", KUAIRAND) == [DAYS[1]]
    assert lake.days("promotions", KUAIRAND) == list(DAYS)
    publish(lake, "exposures", DAYS[0])
    assert verified()[0] == 0
    assert lake.days("exposures", KUAIRAND) == list(DAYS)


@pytest.mark.bucket
def test_a_lake_in_a_bucket_is_checked(bucket):
    lake, findings = Lake.at(bucket), Findings()
    publish(lake, "channel_policies", DAYS[0])
    partition = lake["channel_policies", KUAIRAND, DAYS[0]]
    store_audit(lake, Audit("channel_policies", "kuairand", DAYS[0], 200, partition.manifest.fingerprint, (), ()))
    assert update_consumer_file(partition)
    assert not update_consumer_file(partition)  # the file has this edition already
    check_tables(lake, KUAIRAND, findings)
    check_results(lake, KUAIRAND, findings)
    assert findings.damage == []
    counts = {name: number for name, number in findings.counts.items() if name != "bytes"}
    assert counts == {"tables": 2, "files": 3, "partitions": 1, "audits": 1, "files for consumers": 1}
    first, second = partition.data_files()
    folder = lake.table("channel_policies", KUAIRAND)
    (folder / first.path).unlink()
    (folder / second.path).write_bytes(b"other")
    partition.consumer_file.write_bytes(b"other")
    check_tables(lake, KUAIRAND, findings)
    check_results(lake, KUAIRAND, findings)
    assert len(findings.damage) == 2  # of the partition, and of the file for consumers
    assert "is missing (and 1 more of these files)" in findings.damage[0]
