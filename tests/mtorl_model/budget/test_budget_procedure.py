"""The online procedure: never above the budget, batches of any size, and no kill spends anything twice."""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_campaign import Partner, killed_campaign, run

from mtorl_model.budget.environment import Outcome
from mtorl_model.budget.journal import Journal
from mtorl_model.budget.procedure import Campaign
from mtorl_model.data.money import MOST_NANO
from schemas.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
AMOUNTS = st.one_of(st.just(0), st.integers(0, 50), st.integers(0, 10**12), st.integers(0, MOST_NANO))


@st.composite
def partners(draw):
    """Prices, bids and a budget of any size, for few users and rounds."""
    rounds, users = draw(st.integers(1, 4)), draw(st.integers(2, 7))
    seed = draw(st.integers(0, 2**32 - 1))
    highest = draw(AMOUNTS)
    cost_RUA = np.random.default_rng(seed).integers(0, highest, (rounds + 1, users, 3), endpoint=True)
    cost_RUA[np.random.default_rng(seed + 1).random(cost_RUA.shape) < 0.2] = 0
    bid_A = np.array(draw(st.lists(st.one_of(AMOUNTS, st.just(highest)), min_size=3, max_size=3)))
    return cost_RUA, bid_A, draw(AMOUNTS), rounds


def state(ledger, memory) -> list:
    return [ledger.spent_nano, ledger.exposures, ledger.gains, *(a.tolist() for a in memory._past.values()),
            memory.exposures_UA.tolist(), memory.gains_UAG.tolist()]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(partners(), st.integers(1, 5))
def test_spending_stays_within_the_budget_and_batches_make_no_difference(world, at_once):
    cost_RUA, bid_A, budget, rounds = world
    ends = []
    for size in (1, at_once, 100):
        with tempfile.TemporaryDirectory() as folder:
            partner = Partner(cost_RUA, bid_A, budget)  # refuses bids beyond the budget at every step
            ledger, memory = run(partner, budget, Path(folder) / "journal", at_once=size, rounds=rounds)
            assert ledger.total_nano == partner.charged <= budget
            ends.append((state(ledger, memory), partner.bank))
    assert ends[0] == ends[1] == ends[2]


def test_the_budget_is_used_to_the_last_bid_that_it_covers(tmp_path):
    cost = np.full((4, 10, 3), 7)
    partner = Partner(cost, [7, 7, 7], 100)
    ledger, _ = run(partner, 100, tmp_path / "journal", at_once=4, rounds=3)
    assert ledger.total_nano == 98
    assert sum(ledger.exposures) == 14


def test_no_round_begins_that_can_pay_for_nothing(tmp_path):
    partner = Partner(np.full((6, 10, 3), 7), [7, 9, 9], 76)
    ledger, _ = run(partner, 76, tmp_path / "journal", at_once=4, rounds=5)
    assert len(ledger.exposures) < 6
    assert 76 - ledger.total_nano < 7


def test_a_missing_attribute_is_missing_after_a_restart(tmp_path):
    campaign = {"budget_nano": 1}
    one = np.ones(3, np.int64)
    outcome = Outcome(one, one, one, one > 0, np.ones((3, 2), np.int64), one, {"cpo": [np.float64(0.5), np.nan, None]})
    with Journal(tmp_path / "journal", campaign) as journal:
        journal.answer(0, outcome)
    with Journal(tmp_path / "journal", campaign) as journal:
        assert journal.answers[0][0].attributes == {"cpo": [0.5, None, None]}


def test_what_is_not_covered_is_passed_over_for_what_is(tmp_path):
    partner = Partner(np.full((2, 12, 3), 5), [1000, 5, 1000], 100)
    ledger, _ = run(partner, 100, tmp_path / "journal", at_once=4, rounds=1)
    assert ledger.total_nano > 0
    assert (np.array(list(partner.bank.values())) == 5).all()


class Crooked(Partner):
    """Breaks the contract in one answer."""

    def __init__(self, *args, change, **kwargs):
        super().__init__(*args, **kwargs)
        self.change = change

    def step(self, *offer):
        outcome = super().step(*offer)
        return replace(outcome, **self.change(outcome)) if self.change else outcome


CROOKED = {
    "more than was bid": lambda o: {"cost_nano_N": o.cost_nano_N + 1_000_000},
    "negative amount": lambda o: {"cost_nano_N": o.cost_nano_N - 1_000},
    "cost_nano_N as float64": lambda o: {"cost_nano_N": np.full(len(o.cost_nano_N), np.nan)},
    "not shown": lambda o: {"shown_N": np.zeros(len(o.shown_N), bool)},
    "neither 0 nor 1": lambda o: {"gains_NG": o.gains_NG + 2},
    "other users": lambda o: {"user_N": o.user_N + 1},
    "another channel": lambda o: {"channel_N": (o.channel_N + 1) % 3},
    "cost_nano_N in the shape": lambda o: {"cost_nano_N": np.tile(o.cost_nano_N, (2, 1))},
    "gains_NG in the shape": lambda o: {"gains_NG": o.gains_NG[:, :1]},
    "shown_N as int8": lambda o: {"shown_N": o.shown_N.astype(np.int8)},
    "at_ms_N as float64": lambda o: {"at_ms_N": o.at_ms_N.astype(np.float64)},
    "before the round's moment": lambda o: {"at_ms_N": o.at_ms_N - 1},
    "2 values of campaign for": lambda o: {"attributes": {"campaign": ["spring"] * 2}},
    "campaign that is no string": lambda o: {"attributes": {"campaign": [7] * len(o.user_N)}},
    "no plain value": lambda o: {"attributes": {"campaign": [b"spring"] * len(o.user_N)}},
    "other that is no plain value": lambda o: {"attributes": {"other": [float("inf")] * len(o.user_N)}},
}


@pytest.mark.parametrize("message", CROOKED)
def test_an_answer_outside_the_contract_books_nothing(tmp_path, message):
    cost = np.full((4, 10, 3), 5)
    crooked = Crooked(cost, [9, 9, 9], 200, change=CROOKED[message])
    with pytest.raises(UserError, match=message):
        run(crooked, 200, tmp_path / "journal", at_once=4, rounds=3)
    assert b'"kind": "answer"' not in (tmp_path / "journal").read_bytes()
    crooked.change = None  # repaired: the offers already made are answered as the first time
    ledger, _ = run(crooked, 200, tmp_path / "journal", at_once=4, rounds=3)
    honest = Partner(cost, [9, 9, 9], 200)
    expected, _ = run(honest, 200, tmp_path / "other", at_once=4, rounds=3)
    assert ledger == expected
    assert crooked.bank == honest.bank


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A campaign that was not killed: its world, its journal's bytes, its end."""
    path = tmp_path_factory.mktemp("whole") / "journal"
    cost = np.random.default_rng(0).integers(0, 40, (4, 8, 3))
    partner = Partner(cost, [40, 30, 20], 500)
    end = state(*run(partner, 500, path, at_once=3, rounds=3))
    return cost, path.read_bytes(), end, partner.bank


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_journal_cut_anywhere_leads_to_the_same_end(whole, data):
    """Whatever a kill leaves of the journal, and whether or not the partner had done what was not yet answered."""
    cost, content, end, bank = whole
    cut = data.draw(st.integers(0, len(content)))
    rubbish = data.draw(st.sampled_from([b"", b"0", b'deadbeef {"kind": "ans', b"\n"]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        begun = content.index(b"\n") < cut < len(content)  # the first line is whole: what follows may be torn
        path.write_bytes(content[:cut] + (rubbish if begun else b""))
        bids = data.draw(st.sampled_from([[40, 30, 20], [501, 30, 20], [0, 500, 1]]))  # quoted anew after the kill
        # What the file holds in whole lines; rubbish may end the line that the cut has left without its end.
        whole_lines = [line for line in path.read_bytes().split(b"\n")[:-1] if line in content.split(b"\n")]
        ended = sum(b'"kind": "plan"' in line for line in whole_lines) == 4
        partner = Partner(cost, bids if ended else [40, 30, 20], 500)
        done = sum(len(json.loads(line[9:])["user_N"]) for line in whole_lines if b'"kind": "answer"' in line)
        made = list(bank.items())[: done + data.draw(st.integers(0, 3))]
        partner.bank = dict(made)
        ledger_memory = run(partner, 500, path, at_once=3, rounds=3)
        assert state(*ledger_memory) == end
        assert partner.bank == bank
        assert len(partner.recovered) == done
        assert path.read_bytes() == content


def test_damage_in_the_middle_is_no_torn_end(whole, tmp_path):
    content = bytearray(whole[1])
    content[len(content) // 2] ^= 1
    (tmp_path / "journal").write_bytes(content)
    with pytest.raises(UserError, match="damaged in the middle"):
        run(Partner(whole[0], [40, 30, 20], 500), 500, tmp_path / "journal", at_once=3, rounds=3)


def test_the_journal_of_another_campaign_is_refused(whole, tmp_path):
    (tmp_path / "journal").write_bytes(whole[1])
    with pytest.raises(UserError, match="budget_nano: 500 there, 501 here"):
        run(Partner(whole[0], [40, 30, 20], 501), 501, tmp_path / "journal", at_once=3, rounds=3)
    assert (tmp_path / "journal").read_bytes() == whole[1]


def test_two_runs_never_share_a_journal(tmp_path):
    campaign = {"budget_nano": 1}
    with (
        Journal(tmp_path / "journal", campaign),
        pytest.raises(UserError, match="another run is using"),
        Journal(tmp_path / "journal", campaign),
    ):
        pass


@pytest.mark.parametrize(("budget", "rounds"), [(-1, 3), (5, 0)])
def test_a_campaign_without_rounds_or_money_is_refused(budget, rounds):
    with pytest.raises(UserError, match="a campaign of"):
        Campaign(budget, rounds)


@pytest.mark.slow
def test_killed_and_started_again_it_spends_nothing_twice(tmp_path):
    """Real processes, real SIGKILLs at random moments; the partner's bank refuses a second charge when it is read."""
    luck = random.Random(0)
    kills = 0
    for _ in range(30):
        command = [sys.executable, str(ROOT / "tests/mtorl_model/helpers/toy_campaign.py"), str(tmp_path), "0.02"]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        if kills < 5:
            time.sleep(luck.uniform(0.02, 0.4))
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
            process.stdout.close()
            continue
        said, _ = process.communicate()
        assert process.returncode == 0
        break
    assert kills == 5
    partner, budget, _ = killed_campaign(tmp_path, 0.0)
    other = tmp_path / "never killed"
    other.mkdir()
    never_killed, _, rounds = killed_campaign(other, 0.0)
    ledger, _ = run(never_killed, budget, other / "journal", at_once=7, rounds=rounds)
    assert partner.bank == never_killed.bank
    assert said.strip() == f"total {ledger.total_nano}"
    assert partner.charged == ledger.total_nano <= budget


class Killed(BaseException):
    pass


class Dies(Partner):
    """Is killed between step and answer, once, in the first round."""

    dies = True

    def step(self, number, *offer):
        outcome = super().step(number, *offer)
        if number == 1 and self.dies:
            raise Killed
        return outcome


def test_offers_go_out_again_at_the_bids_of_their_plan(tmp_path):
    """Bids that have risen since would leave offers that were made unbooked, and spend their money twice."""
    partner = Dies(np.full((2, 12, 3), 10), [10, 10, 10], 100)
    with pytest.raises(Killed):
        run(partner, 100, tmp_path / "journal", at_once=100, rounds=1)
    assert partner.charged == 100
    partner.dies, partner.bid_nano_A = False, np.array([101, 10, 10])
    ledger, _ = run(partner, 100, tmp_path / "journal", at_once=100, rounds=1)
    assert ledger.total_nano == partner.charged == 100


def test_another_world_is_refused(tmp_path):
    partner = Dies(np.full((2, 12, 3), 5), [5, 5, 5], 100)
    with pytest.raises(Killed):
        run(partner, 100, tmp_path / "journal", at_once=3, rounds=1)
    with pytest.raises(UserError, match=r"journal of another campaign .users: "):
        run(Partner(np.full((2, 13, 3), 5), [5, 5, 5], 100), 100, tmp_path / "journal", at_once=3, rounds=1)
    other = Partner(np.full((2, 12, 3), 5), [5, 5, 5], 100)
    other.fingerprint = "the exposures of the past were built again"
    with pytest.raises(UserError, match=r"journal of another campaign .environment: toy there"):
        run(other, 100, tmp_path / "journal", at_once=3, rounds=1)


def test_offers_are_keyed_by_their_campaign(tmp_path):
    """The same after a restart, another for another campaign: (round, user) alone would answer both alike."""
    names = []
    for budget, journal in ((100, "a"), (100, "a"), (101, "b")):
        partner = Partner(np.full((2, 12, 3), 5), [5, 5, 5], budget)
        run(partner, budget, tmp_path / journal, at_once=3, rounds=1)
        names.append(partner.campaign)
    assert names[0] == names[1] != names[2]


class Half(Partner):
    """Shows every other offer, and reports gains for all."""

    def step(self, number, user_N, channel_N, bid_nano_N):
        outcome = super().step(number, user_N, channel_N, bid_nano_N)
        shown_N = user_N % 2 == 0
        self.bank |= {(number, int(user)): 0 for user in user_N[~shown_N]}
        return replace(outcome, shown_N=shown_N, cost_nano_N=outcome.cost_nano_N * shown_N,
                       gains_NG=np.ones_like(outcome.gains_NG))  # fmt: skip


def test_gains_of_what_was_not_shown_are_not_counted(tmp_path):
    ledger, _ = run(Half(np.full((2, 12, 3), 5), [5, 5, 5], 100), 100, tmp_path / "journal", at_once=4, rounds=1)
    assert ledger.gains == [[shown] * 2 for shown in ledger.exposures]
    assert sum(ledger.exposures) > 0


class Counting(Partner):
    asked = 0

    def moment(self, number):
        self.asked += 1
        return super().moment(number)


@pytest.mark.parametrize(("budget", "asked"), [(25, 2), (54, 2), (0, 0)])
def test_it_stops_when_no_bid_is_covered_any_more(tmp_path, budget, asked):
    """There is nobody to explore, and round 1 spends the money: nineteen idle rounds are not asked for."""
    partner = Counting(np.full((21, 10, 3), 5), [5, 5, 5], budget)
    ledger, _ = run(partner, budget, tmp_path / "journal", at_once=4, rounds=20)
    assert ledger.total_nano == min(budget, 50) // 5 * 5
    assert partner.asked == asked


def test_a_moment_that_is_no_moment_costs_nothing(tmp_path):
    class Back(Partner):
        def moment(self, number):
            return replace(super().moment(number), at_ms_N=np.zeros(12, np.int64))

    partner = Back(np.full((2, 12, 3), 5), [5, 5, 5], 100)
    with pytest.raises(UserError, match="in order and at distinct times"):
        run(partner, 100, tmp_path / "journal", at_once=3, rounds=1)
    assert partner.charged == 0

    class Untold(Partner):
        def moment(self, number):
            return replace(super().moment(number), context={})

    partner = Untold(np.full((2, 12, 3), 5), [5, 5, 5], 100)
    with pytest.raises(UserError, match="does not give hour"):
        run(partner, 100, tmp_path / "journal", at_once=3, rounds=1)
    assert partner.charged == 0


@pytest.mark.parametrize("content", [b"my only copy", b'{"x": 1}\n', b"line 1\nline 2\nline 3\n", b"\x00\n"])
def test_a_file_that_is_no_journal_is_left_as_it_is(tmp_path, content):
    path = tmp_path / "results.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"results.txt is no journal .* name another file"), Journal(path, {"a": 1}):
        pass
    assert path.read_bytes() == content


@pytest.mark.parametrize("cut", [0, 1, 20, -1])
def test_a_first_line_that_was_torn_is_written_again(tmp_path, cut):
    with Journal(tmp_path / "whole", {"budget_nano": 1}):
        pass
    content = (tmp_path / "whole").read_bytes()
    (tmp_path / "journal").write_bytes(content[:cut])
    with Journal(tmp_path / "journal", {"budget_nano": 1}):
        pass
    assert (tmp_path / "journal").read_bytes() == content


def test_a_run_that_comes_second_takes_nothing_away(tmp_path, monkeypatch):
    """Even where the file was not there yet when it looked."""
    with Journal(tmp_path / "journal", {"a": 1}):
        content = (tmp_path / "journal").read_bytes()
        monkeypatch.setattr(Path, "exists", lambda path: False)
        with pytest.raises(UserError, match="another run is using"), Journal(tmp_path / "journal", {"a": 1}):
            pass
        assert (tmp_path / "journal").read_bytes() == content


def test_a_new_journal_is_in_its_folder_for_good(tmp_path, monkeypatch):
    """A file is safe from a power cut only with its folder's entry."""
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: (synced.append(str(Path(f"/proc/self/fd/{handle}").readlink())), fsync(handle))
    )
    with Journal(tmp_path / "journal", {"a": 1}):
        pass
    assert str(tmp_path) in synced
