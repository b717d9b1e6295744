"""Expired versions are deleted with their files; versions that some command needs stay."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.lake import Lake
from lakehouse.models.decisions import commit_decision
from lakehouse.models.versions import Version
from mtorl_model.champion.expiry import KEPT_DAYS, delete_expired, needed_versions
from mtorl_model.champion.mlflow_store import mlflow_client, own_artifacts
from mtorl_model.champion.registry import Registry
from mtorl_model.rollback import roll_back
from schemas.dataset import get_dataset
from schemas.days import day_plus
from schemas.errors import Busy

KUAIRAND = get_dataset("kuairand")
NEWEST = "2022-05-08"
OLD, RECENT = day_plus(NEWEST, -KEPT_DAYS), day_plus(NEWEST, -KEPT_DAYS + 1)


class DecidedRegistry(Registry):
    """A registry whose decisions are in memory."""

    rows: tuple[Version, ...] = ()

    def decided(self) -> tuple[Version, ...]:
        return self.rows


def version(number: int, day: str, **decided: object) -> Version:
    return Version(f"mtorl_kuairand/{number}", number, f"run{number}", day, "digest", **decided)  # type: ignore[arg-type]


def needed_numbers(versions: Sequence[Version], tmp_path: Path = Path("lake")) -> list[int]:
    registry = DecidedRegistry(Lake(tmp_path), KUAIRAND)
    object.__setattr__(registry, "rows", tuple(v for v in versions if v.reign or v.decision))
    return [v.number for v in needed_versions(registry, versions)]


def test_champion_rollback_target_and_full_trainings_are_needed_whatever_their_age() -> None:
    days = [day_plus(OLD, -k) for k in range(6)]
    versions = [
        version(1, days[5], reign=1),  # the full training that the champion descends from
        version(2, days[4], parent="mtorl_kuairand/1", reign=2),
        version(3, days[3], reign=3),  # the last full training
        version(4, days[2], parent="mtorl_kuairand/2", reign=4),  # where a rollback returns to
        version(5, days[1], parent="mtorl_kuairand/4", reign=5, withdrawn=True),
        version(6, days[0], parent="mtorl_kuairand/2", reign=6, is_champion=True),
        version(7, days[0], parent="mtorl_kuairand/6", decision="refused: worse"),
        version(8, NEWEST),
    ]
    assert needed_numbers(versions) == [1, 3, 4, 6, 8]


def test_what_scored_one_of_the_latest_days_is_needed() -> None:
    """An old version that was champion until a recent day; its successor's first day is the last that it scored."""
    versions = [
        version(1, day_plus(OLD, -9), reign=1),
        version(2, day_plus(OLD, -8), reign=2),
        version(3, OLD, reign=3),
        version(4, RECENT, reign=4),
        version(5, NEWEST, reign=5, is_champion=True),
    ]
    versions = [replace(v, parent=f"mtorl_kuairand/{v.number - 1}") if v.number > 2 else v for v in versions]
    assert needed_numbers(versions) == [2, 3, 4, 5]  # 2 is the full training of all later ones


def test_without_a_champion_everything_is_needed() -> None:
    assert needed_numbers([version(1, OLD), version(2, NEWEST)]) == [1, 2]


@given(st.lists(st.tuples(st.integers(0, 200), st.booleans()), min_size=1, max_size=30))
def test_no_recent_version_expires(ages: list[tuple[int, bool]]) -> None:
    versions = [
        version(k, day_plus(NEWEST, -age), reign=k if was_champion else 0)
        for k, (age, was_champion) in enumerate(ages, start=1)
    ]
    if champions := [v for v in versions if v.reign]:
        versions[champions[-1].number - 1] = replace(champions[-1], is_champion=True)
    needed = needed_numbers(versions)
    first = day_plus(max(v.day for v in versions), -KEPT_DAYS + 1)
    assert {v.number for v in versions if v.day >= first} <= set(needed)


@pytest.mark.slow
def test_expired_versions_go_with_their_runs_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Registry, "spec_of", lambda *args: None)
    monkeypatch.setattr("mtorl_model.rollback.export_for_daily_run", lambda *args: None)
    lake = Lake(tmp_path / "lake")
    registry = Registry(lake, KUAIRAND)

    def register(day: str, parent: str = "", *, reigns: bool = True) -> Version:
        folder = tmp_path / "model"
        folder.mkdir()
        (folder / "weights.pt").write_text(day)
        registered = registry.register(folder, {}, [], identity=day, day=day, parent=parent)
        if reigns:
            registry.make_champion(registered)
        return registered

    first = register(day_plus(OLD, -9))
    for age in (-8, -7):
        register(day_plus(OLD, age), first.name)
    register(day_plus(OLD, -5), first.name, reigns=False)
    marked = register(day_plus(OLD, -5), first.name, reigns=False)
    register(NEWEST, first.name)
    with mlflow_client(lake) as client:
        client.set_registered_model_alias("mtorl_kuairand", "shown-to-the-board", str(marked.number))
        run = client.create_run(client.get_experiment_by_name("kuairand").experiment_id, 1, {"model": registry.model})

    def names() -> list[int]:
        return [v.number for v in registry.versions()]

    line = "mtorl_kuairand: mtorl_kuairand/2, mtorl_kuairand/4 and 3 runs"
    assert delete_expired(registry, today="2022-06-01", dry_run=True) == [f"{line} would be deleted from MLflow"]
    assert names() == [1, 2, 3, 4, 5, 6]
    assert delete_expired(registry, today="2022-06-01", dry_run=False) == [f"{line} were deleted from MLflow"]
    assert names() == [1, 3, 5, 6]
    kept_runs = {v.run_id for v in registry.versions()}
    artifacts = own_artifacts(lake, "kuairand")
    assert {file.relative_to(artifacts).parts[0] for file in artifacts.rglob("*.pt")} == kept_runs
    with mlflow_client(lake) as client:
        assert run.info.run_id not in {r.info.run_id for r in client.search_runs(["0", "1"])}
    second = delete_expired(registry, today="2022-06-01", dry_run=False)
    assert second == ["mtorl_kuairand: nothing has expired in MLflow"]
    # No command reads a deleted version.
    assert registry.champion_before(day_plus(OLD, -7)).number == 1
    assert roll_back(registry, None).startswith("mtorl_kuairand/3")
    assert roll_back(registry, None).startswith("mtorl_kuairand/1")


def test_a_decision_that_comes_first_stops_the_deletion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry(Lake(tmp_path), KUAIRAND)
    old = [version(k, day_plus(OLD, -9), reign=k) for k in (1, 2, 3, 4)]
    rows = [*old, version(5, NEWEST, reign=5, is_champion=True)]
    seen = commit_decision(registry.lake, "kuairand", rows, seen=())
    monkeypatch.setattr(Registry, "show_decisions", lambda *args: None)
    monkeypatch.setattr(Registry, "_described", lambda self, version: version)

    def find(registry: Registry, today: str) -> object:
        commit_decision(registry.lake, "kuairand", [replace(rows[1], is_champion=True)], seen=seen)
        from mtorl_model.champion.expiry import Expired

        return Expired(tuple(rows[1:2]), ())

    monkeypatch.setattr("mtorl_model.champion.expiry.find_expired", find)
    with pytest.raises(Busy):
        delete_expired(registry, today=NEWEST, dry_run=False)
