"""A history and a day with the lake and the raw log in an object store: the same fingerprints as on a disk."""

import time
from pathlib import Path

import pytest
from built_lake import generate
from in_process import Jobs
from lakes import contents

from lakehouse.lake import Lake
from lakehouse.storage.store_path import path_of
from schemas.errors import EXIT_TRY_AGAIN

pytestmark = [pytest.mark.spark, pytest.mark.bucket, pytest.mark.slow(70)]
HISTORY = ["exposures", "quarantine", "journeys", "feature_spec", "steps", "item_history", "sequences"]
SCORES = ["channel_policies", "user_reward_ranks", "budget_plan"]
TINY = ["--members", "1", "--max-epochs", "1", "--set", "hidden=16", "--set", "trees=false"]


def uploaded(folder: Path, target: Path) -> Path:
    for file in folder.iterdir():
        (target / file.name).upload(file)
    return target


def run_days(jobs: Jobs, raw: Path) -> dict[str, float]:
    """A history of all days but the last, then the last day; the seconds of each step."""
    seconds = {}

    def step(job: str, *arguments: str) -> None:
        start = time.perf_counter()
        jobs.ok(job, *arguments)
        seconds[job] = round(seconds.get(job, 0) + time.perf_counter() - start, 1)

    step("build_exposures", "--raw", str(raw))
    first, *_, eve, day = jobs.lake.days("exposures", jobs.dataset)
    step("audit_table", "--table", "exposures", "quarantine")
    step("build_journeys", "--day", eve)
    step("build_sequences", "--from", first, "--to", eve)
    step("build_feature_spec", "--from", first, "--to", eve)
    step("mtorl_model.train", "--from", first, "--to", eve, *TINY)
    step("build_sequences", "--up-to", day, "--journeys")
    step("mtorl_model.score", "--day", day)
    step("mtorl_model.plan_budget", "--day", day, "--budget", "50")
    step("audit_table", "--table", *HISTORY, *SCORES, "--new", "--only-published")
    step("measure_drift", "--day", day)
    step("report", "--day", day)
    step("status")
    step("jobs.verify.__main__")
    step("jobs.maintain.__main__", "--dry-run")
    return seconds


def test_a_bucket_has_the_same_content_as_a_disk(spark, bucket, s3_server, tmp_path, monkeypatch, capfd):
    pytest.importorskip("boto3", reason="MLflow needs it for weights in a bucket: pip install -r requirements-s3.txt")
    for name, value in s3_server.environment.items():  # the session may be older than the server
        monkeypatch.setitem(spark.environment, name, value)
    raw = generate(monkeypatch, tmp_path / "raw", "kuairand", users=120, days=3)
    on_disk, in_bucket = Lake(tmp_path / "lake"), Lake.at(f"{bucket}/lake")
    seconds = {"disk": run_days(Jobs(spark, on_disk, "kuairand", monkeypatch), raw)}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    raw_in_bucket = uploaded(raw, path_of(f"{bucket}/raw"))
    seconds["bucket"] = run_days(Jobs(spark, in_bucket, "kuairand", monkeypatch), raw_in_bucket)
    with capfd.disabled():
        print(f"seconds by step: {seconds}")
    assert contents(in_bucket) == contents(on_disk)
    assert {key.split("/")[1] for key in contents(on_disk)} >= {*HISTORY, *SCORES}
    for folder in (on_disk.reports("kuairand"), on_disk.docs("kuairand"), on_disk.audits("kuairand")):
        files = {str(file.relative_to(on_disk.root)) for file in folder.rglob("*") if file.is_file()}
        stored = {str(file).removeprefix(f"{in_bucket.root}/") for file in in_bucket.root.rglob("*") if file.is_file()}
        assert files <= stored

    s3_server.kill()
    try:
        jobs = Jobs(spark, in_bucket, "kuairand", monkeypatch)
        assert jobs.run("build_exposures", "--raw", f"{bucket}/raw") == EXIT_TRY_AGAIN
        (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
        assert "the object store does not answer" in line
    finally:
        s3_server.start()
    jobs.ok("build_exposures", "--raw", f"{bucket}/raw")
    assert contents(in_bucket) == contents(on_disk)
