"""Decisions about models: of two decisions from one state, the second is refused."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.lake import Lake
from lakehouse.models import decisions
from lakehouse.models.decisions import champion_among, commit_decision, decided_versions, read_decisions
from lakehouse.models.versions import Version
from schemas.basis import VALUE, BasisDecision
from schemas.errors import Busy

MODEL = "mtorl_kuairand"


def version(number: int, model: str = MODEL, **decided: object) -> Version:
    return Version(f"{model}/{number}", number, f"run{number}", f"2022-04-{number:02}", f"digest{number}", **decided)  # type: ignore[arg-type]


def test_a_lake_without_decisions_has_none_and_no_new_files(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    assert (read_decisions(lake, "kuairand"), decided_versions(lake, "kuairand", MODEL)) == ({}, ())
    assert not list(tmp_path.iterdir())


def test_a_version_comes_back_as_it_was_committed(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    basis = BasisDecision(VALUE, "worth more", {VALUE: {"value": 0.1, "low": None, "high": 0.2}})
    every_field = version(
        2, parent=f"{MODEL}/1", reign=3, decision="promoted", compared_with=f"{MODEL}/1", withdrawn=True, basis=basis,
        is_champion=True, experiment_id="7", curves='{"loss": {"1": 0.5}}',
    )  # fmt: skip
    commit_decision(lake, "kuairand", [every_field, version(1)], seen=())
    assert decided_versions(lake, "kuairand", MODEL) == (version(1), every_field)
    assert read_decisions(lake, "kuairand") == {MODEL: (version(1), every_field)}
    assert read_decisions(lake, "criteo") == {}


def test_a_new_champion_replaces_the_present_one(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    seen = commit_decision(lake, "kuairand", [version(1, is_champion=True, reign=1)], seen=())
    seen = commit_decision(lake, "kuairand", [version(2, is_champion=True, reign=2)], seen=seen)
    assert [(v.number, v.is_champion) for v in seen] == [(1, False), (2, True)]
    seen = commit_decision(lake, "kuairand", [version(3, decision="refused")], seen=seen)
    assert champion_among(seen) == seen[1]


def test_a_decision_from_an_old_state_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    first = commit_decision(lake, "kuairand", [version(1, is_champion=True)], seen=())
    with pytest.raises(Busy, match="another decision about mtorl_kuairand has come first"):
        commit_decision(lake, "kuairand", [version(2, is_champion=True)], seen=())
    assert decided_versions(lake, "kuairand", MODEL) == first
    commit_decision(lake, "kuairand", [version(2, is_champion=True)], seen=first)
    with pytest.raises(Busy):
        commit_decision(lake, "kuairand", [version(3, is_champion=True)], seen=first)


def test_an_equal_decision_commits_nothing(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    seen = commit_decision(lake, "kuairand", [version(1)], seen=())
    log = sorted(tmp_path.rglob("_delta_log/*.json"))
    assert commit_decision(lake, "kuairand", [version(1)], seen=seen) == seen
    assert sorted(tmp_path.rglob("_delta_log/*.json")) == log


def test_models_of_other_methods_do_not_disturb_each_other(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    mtorl = commit_decision(lake, "kuairand", [version(1)], seen=())
    rmtl = commit_decision(lake, "kuairand", [version(1, "rmtl_kuairand")], seen=())
    mtorl = commit_decision(lake, "kuairand", [version(2)], seen=mtorl)
    assert read_decisions(lake, "kuairand") == {MODEL: mtorl, "rmtl_kuairand": rmtl}


def test_a_commit_between_the_look_and_the_write_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake, write = Lake(tmp_path), decisions._write
    seen = commit_decision(lake, "kuairand", [version(1)], seen=())

    def overtaken(*arguments: object) -> None:
        monkeypatch.setattr(decisions, "_write", write)
        commit_decision(lake, "kuairand", [rival], seen=seen_by_rival)
        write(*arguments)  # type: ignore[arg-type]

    rival, seen_by_rival = version(1, "rmtl_kuairand"), ()
    monkeypatch.setattr(decisions, "_write", overtaken)
    seen = commit_decision(lake, "kuairand", [version(2)], seen=seen)  # another model: committed again
    rival, seen_by_rival = version(3), seen
    monkeypatch.setattr(decisions, "_write", overtaken)
    with pytest.raises(Busy):
        commit_decision(lake, "kuairand", [version(4)], seen=seen)
    assert [v.number for v in decided_versions(lake, "kuairand", MODEL)] == [1, 2, 3]


@pytest.mark.parametrize("has_table", [False, True])
def test_of_many_deciders_at_once_exactly_one_succeeds(tmp_path: Path, has_table: bool) -> None:
    lake, outcomes = Lake(tmp_path), []
    seen = commit_decision(lake, "kuairand", [version(9, is_champion=True)], seen=()) if has_table else ()
    start = threading.Barrier(6)

    def decide(number: int) -> None:
        start.wait()
        try:
            commit_decision(lake, "kuairand", [version(number, is_champion=True)], seen=seen)
            outcomes.append(number)
        except Busy:
            outcomes.append(0)

    threads = [threading.Thread(target=decide, args=(number,)) for number in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [number for number in outcomes if number]
    assert (len(outcomes), champion_among(decided_versions(lake, "kuairand", MODEL))) == (
        6,
        version(winner, is_champion=True),
    )


@given(st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=6))
def test_there_is_never_more_than_one_champion(numbers: list[int]) -> None:
    rows: tuple[Version, ...] = ()
    for number in numbers:
        rows = decisions._merged(rows, [replace(version(number), is_champion=True)])
        assert [v.number for v in rows if v.is_champion] == [number]
