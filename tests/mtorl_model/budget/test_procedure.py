"""The online procedure: never above the budget, the same for batches of any size, and no kill spends money twice."""

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
from mtorl_model.data.money import MAX_NANO
from schemas.errors import UserError

ROOT = Path(__file__).resolve().parents[3]

AMOUNTS = st.one_of(st.just(0), st.integers(0, 50), st.integers(0, 10**12), st.integers(0, MAX_NANO))


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


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(partners(), st.integers(1, 5))
def test_spending_stays_within_the_budget_and_batches_make_no_difference(world, batch_size):
    cost_RUA, bid_A, budget, rounds = world
    ends = []
    for size in (batch_size, 100):
        with tempfile.TemporaryDirectory() as folder:
            partner = Partner(cost_RUA, bid_A, budget)  # refuses bids beyond the budget at every step
            ledger, memory = run(partner, budget, Path(folder) / "journal", batch_size=size, rounds=rounds)
            assert ledger.total_nano == partner.charged <= budget
            ends.append((state(ledger, memory), partner.bank))
    assert ends[0] == ends[1]


def test_the_budget_is_used_to_the_last_bid_that_it_covers(tmp_path):
    cost = np.full((4, 10, 3), 7)
    partner = Partner(cost, [7, 7, 7], 100)
    ledger, _ = run(partner, 100, tmp_path / "journal", batch_size=4, rounds=3)
    assert ledger.total_nano == 98
    assert sum(ledger.exposures) == 14


def test_no_round_begins_without_money_for_an_offer(tmp_path):
    partner = Partner(np.full((6, 10, 3), 7), [7, 9, 9], 76)
    ledger, _ = run(partner, 76, tmp_path / "journal", batch_size=4, rounds=5)
    assert len(ledger.exposures) < 6
    assert 76 - ledger.total_nano < 7


def test_a_missing_attribute_is_missing_after_a_restart(tmp_path):
    campaign = {"budget_nano": 1}
    user_N, gains_NG = np.arange(3), np.ones((3, 2), np.int64)
    attributes = {"cpo": [np.float64(0.5), np.nan, None]}
    outcome = Outcome(user_N, user_N, user_N, np.ones(3, bool), gains_NG, user_N, attributes)
    with Journal(tmp_path / "journal", campaign) as journal:
        journal.add_outcome(0, outcome)
    with Journal(tmp_path / "journal", campaign) as journal:
        assert journal.outcomes[0][0].attributes == {"cpo": [0.5, None, None]}


def test_offers_that_are_not_covered_are_skipped(tmp_path):
    partner = Partner(np.full((2, 12, 3), 5), [1000, 5, 1000], 100)
    ledger, _ = run(partner, 100, tmp_path / "journal", batch_size=4, rounds=1)
    assert ledger.total_nano > 0
    assert (np.array(list(partner.bank.values())) == 5).all()


class InvalidPartner(Partner):
    """Returns an outcome that breaks the contract."""

    def __init__(self, *args, change, **kwargs):
        super().__init__(*args, **kwargs)
        self.change = change

    def step(self, *offer):
        outcome = super().step(*offer)
        return replace(outcome, **self.change(outcome)) if self.change else outcome


INVALID = {
    "more than the bid": lambda o: {"cost_nano_N": o.cost_nano_N + 1_000_000},
    "negative amount": lambda o: {"cost_nano_N": o.cost_nano_N - 1_000},
    "cost_nano_N as float64": lambda o: {"cost_nano_N": np.full(len(o.cost_nano_N), np.nan)},
    "without an exposure": lambda o: {"exposed_N": np.zeros(len(o.exposed_N), bool)},
    "neither 0 nor 1": lambda o: {"gains_NG": o.gains_NG + 2},
    "other users": lambda o: {"user_N": o.user_N + 1},
    "another channel": lambda o: {"channel_N": (o.channel_N + 1) % 3},
    "cost_nano_N in the shape": lambda o: {"cost_nano_N": np.tile(o.cost_nano_N, (2, 1))},
    "gains_NG in the shape": lambda o: {"gains_NG": o.gains_NG[:, :1]},
    "exposed_N as int8": lambda o: {"exposed_N": o.exposed_N.astype(np.int8)},
    "at_ms_N as float64": lambda o: {"at_ms_N": o.at_ms_N.astype(np.float64)},
    "before the round's moment": lambda o: {"at_ms_N": o.at_ms_N - 1},
    "2 values of campaign for": lambda o: {"attributes": {"campaign": ["spring"] * 2}},
    "campaign that is not string": lambda o: {"attributes": {"campaign": [7] * len(o.user_N)}},
    "campaign that is not a plain value": lambda o: {"attributes": {"campaign": [b"spring"] * len(o.user_N)}},
    "other that is not a plain value": lambda o: {"attributes": {"other": [float("inf")] * len(o.user_N)}},
}


FIVE_EACH = np.full((4, 10, 3), 5)


@pytest.fixture(scope="module")
def without_invalid_outcomes(tmp_path_factory):
    """The ledger and the bank of a campaign whose partner keeps the contract."""
    partner = Partner(FIVE_EACH, [9, 9, 9], 200)
    ledger, _ = run(partner, 200, tmp_path_factory.mktemp("valid") / "journal", batch_size=4, rounds=3)
    return ledger, partner.bank


@pytest.mark.parametrize("message", INVALID)
def test_an_outcome_that_breaks_the_contract_is_not_booked(tmp_path, without_invalid_outcomes, message):
    partner = InvalidPartner(FIVE_EACH, [9, 9, 9], 200, change=INVALID[message])
    with pytest.raises(UserError, match=message):
        run(partner, 200, tmp_path / "journal", batch_size=4, rounds=3)
    assert b'"kind": "answer"' not in (tmp_path / "journal").read_bytes()
    partner.change = None  # repaired: the offers already made get the same outcome as the first time
    ledger, _ = run(partner, 200, tmp_path / "journal", batch_size=4, rounds=3)
    assert (ledger, partner.bank) == without_invalid_outcomes


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """A campaign that was not killed: its costs, the bytes of its journal, its end state and the partner's bank."""
    path = tmp_path_factory.mktemp("complete") / "journal"
    cost = np.random.default_rng(0).integers(0, 40, (4, 8, 3))
    partner = Partner(cost, [40, 30, 20], 500)
    end = state(*run(partner, 500, path, batch_size=3, rounds=3))
    return cost, path.read_bytes(), end, partner.bank


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_journal_cut_anywhere_leads_to_the_same_end(complete, data):
    """For every way in which a kill can cut the journal, with and without offers that have no outcome yet."""
    cost, content, end, bank = complete
    cut = data.draw(st.integers(0, len(content)))
    garbage = data.draw(st.sampled_from([b"", b"0", b'deadbeef {"kind": "ans', b"\n"]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        has_campaign = content.index(b"\n") < cut < len(content)  # only the lines after the first may be torn
        path.write_bytes(content[:cut] + (garbage if has_campaign else b""))
        bids = data.draw(st.sampled_from([[40, 30, 20], [501, 30, 20], [0, 500, 1]]))  # other bids after the kill
        # The complete lines of the file. The garbage may end a line that the cut has left without its end.
        lines = [line for line in path.read_bytes().split(b"\n")[:-1] if line in content.split(b"\n")]
        is_planned = sum(b'"kind": "plan"' in line for line in lines) == 4
        partner = Partner(cost, bids if is_planned else [40, 30, 20], 500)
        done = sum(len(json.loads(line[9:])["user_N"]) for line in lines if b'"kind": "answer"' in line)
        partner.bank = dict(list(bank.items())[: done + data.draw(st.integers(0, 3))])
        ledger_memory = run(partner, 500, path, batch_size=3, rounds=3)
        assert state(*ledger_memory) == end
        assert partner.bank == bank
        assert len(partner.recovered) == done
        assert path.read_bytes() == content


def test_damage_in_the_middle_is_not_repaired(complete, tmp_path):
    cost, journal, _, _ = complete
    content = bytearray(journal)
    content[len(content) // 2] ^= 1
    (tmp_path / "journal").write_bytes(content)
    with pytest.raises(UserError, match="damaged in the middle"):
        run(Partner(cost, [40, 30, 20], 500), 500, tmp_path / "journal", batch_size=3, rounds=3)


def test_the_journal_of_another_campaign_is_refused(complete, tmp_path):
    cost, content, _, _ = complete
    (tmp_path / "journal").write_bytes(content)
    with pytest.raises(UserError, match="budget_nano: 500 there, 501 here"):
        run(Partner(cost, [40, 30, 20], 501), 501, tmp_path / "journal", batch_size=3, rounds=3)
    assert (tmp_path / "journal").read_bytes() == content


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
    """Real processes, killed at random moments. The partner's bank refuses a second charge when it is read."""
    rng = random.Random(0)
    kills = 0
    for _ in range(30):
        command = [sys.executable, str(ROOT / "tests/mtorl_model/helpers/toy_campaign.py"), str(tmp_path), "0.02"]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        if kills < 5:
            time.sleep(rng.uniform(0.02, 0.4))
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
            process.stdout.close()
            continue
        output, _ = process.communicate()
        assert process.returncode == 0
        break
    assert kills == 5
    partner, budget, _ = killed_campaign(tmp_path, 0.0)
    folder = tmp_path / "never killed"
    folder.mkdir()
    never_killed, _, rounds = killed_campaign(folder, 0.0)
    ledger, _ = run(never_killed, budget, folder / "journal", batch_size=7, rounds=rounds)
    assert partner.bank == never_killed.bank
    assert output.strip() == f"total {ledger.total_nano}"
    assert partner.charged == ledger.total_nano <= budget


class Killed(BaseException):
    pass


class KilledPartner(Partner):
    """Is killed once, in the first round, after a step and before its outcome."""

    is_killed = True

    def step(self, number, *offer):
        outcome = super().step(number, *offer)
        if number == 1 and self.is_killed:
            raise Killed
        return outcome


def test_offers_are_made_again_at_the_bids_of_their_plan(tmp_path):
    """With higher bids, offers that were made would not be booked, and their money would be spent twice."""
    partner = KilledPartner(np.full((2, 12, 3), 10), [10, 10, 10], 100)
    with pytest.raises(Killed):
        run(partner, 100, tmp_path / "journal", batch_size=100, rounds=1)
    assert partner.charged == 100
    partner.is_killed, partner.bid_nano_A = False, np.array([101, 10, 10])
    ledger, _ = run(partner, 100, tmp_path / "journal", batch_size=100, rounds=1)
    assert ledger.total_nano == partner.charged == 100


def test_another_environment_is_refused(tmp_path):
    partner = KilledPartner(np.full((2, 12, 3), 5), [5, 5, 5], 100)
    with pytest.raises(Killed):
        run(partner, 100, tmp_path / "journal", batch_size=3, rounds=1)
    with pytest.raises(UserError, match=r"journal of another campaign .users: "):
        run(Partner(np.full((2, 13, 3), 5), [5, 5, 5], 100), 100, tmp_path / "journal", batch_size=3, rounds=1)
    other_partner = Partner(np.full((2, 12, 3), 5), [5, 5, 5], 100)
    other_partner.fingerprint = "the exposures of the past were built again"
    with pytest.raises(UserError, match=r"journal of another campaign .environment: toy there"):
        run(other_partner, 100, tmp_path / "journal", batch_size=3, rounds=1)


def test_the_key_of_an_offer_contains_its_campaign(tmp_path):
    """It stays the same after a restart. With (round, user) alone, two campaigns would get the same outcomes."""
    names = []
    for budget, journal in ((100, "a"), (100, "a"), (101, "b")):
        partner = Partner(np.full((2, 12, 3), 5), [5, 5, 5], budget)
        run(partner, budget, tmp_path / journal, batch_size=3, rounds=1)
        names.append(partner.campaign)
    assert names[0] == names[1] != names[2]


class EveryOtherPartner(Partner):
    """Exposes every other user, and reports gains for all."""

    def step(self, number, user_N, channel_N, bid_nano_N):
        outcome = super().step(number, user_N, channel_N, bid_nano_N)
        exposed_N = user_N % 2 == 0
        self.bank |= {(number, int(user)): 0 for user in user_N[~exposed_N]}
        return replace(outcome, exposed_N=exposed_N, cost_nano_N=outcome.cost_nano_N * exposed_N,
                       gains_NG=np.ones_like(outcome.gains_NG))  # fmt: skip


def test_gains_without_an_exposure_are_not_counted(tmp_path):
    partner = EveryOtherPartner(np.full((2, 12, 3), 5), [5, 5, 5], 100)
    ledger, _ = run(partner, 100, tmp_path / "journal", batch_size=4, rounds=1)
    assert ledger.gains == [[exposures] * 2 for exposures in ledger.exposures]
    assert sum(ledger.exposures) > 0


class CountingPartner(Partner):
    moments = 0

    def moment(self, number):
        self.moments += 1
        return super().moment(number)


@pytest.mark.parametrize(("budget", "moments"), [(25, 2), (54, 2), (0, 0)])
def test_it_stops_when_no_bid_is_covered_any_more(tmp_path, budget, moments):
    """No user needs exploration and round 1 spends the money, so the other nineteen rounds do not begin."""
    partner = CountingPartner(np.full((21, 10, 3), 5), [5, 5, 5], budget)
    ledger, _ = run(partner, budget, tmp_path / "journal", batch_size=4, rounds=20)
    assert ledger.total_nano == min(budget, 50) // 5 * 5
    assert partner.moments == moments


def test_an_invalid_moment_costs_nothing(tmp_path):
    class BackwardPartner(Partner):
        def moment(self, number):
            return replace(super().moment(number), at_ms_N=np.zeros(12, np.int64))

    partner = BackwardPartner(np.full((2, 12, 3), 5), [5, 5, 5], 100)
    with pytest.raises(UserError, match="in order and at distinct times"):
        run(partner, 100, tmp_path / "journal", batch_size=3, rounds=1)
    assert partner.charged == 0

    class PartnerWithoutContext(Partner):
        def moment(self, number):
            return replace(super().moment(number), context={})

    partner = PartnerWithoutContext(np.full((2, 12, 3), 5), [5, 5, 5], 100)
    with pytest.raises(UserError, match="does not give hour"):
        run(partner, 100, tmp_path / "journal", batch_size=3, rounds=1)
    assert partner.charged == 0


@pytest.mark.parametrize("content", [b"my only copy", b'{"x": 1}\n', b"line 1\nline 2\nline 3\n", b"\x00\n"])
def test_a_file_of_another_kind_stays_unchanged(tmp_path, content):
    path = tmp_path / "results.txt"
    path.write_bytes(content)
    with (
        pytest.raises(UserError, match=r"results.txt is not the journal .* name another file"),
        Journal(path, {"a": 1}),
    ):
        pass
    assert path.read_bytes() == content


@pytest.mark.parametrize("cut", [0, 1, 20, -1])
def test_a_torn_first_line_is_written_again(tmp_path, cut):
    with Journal(tmp_path / "complete", {"budget_nano": 1}):
        pass
    content = (tmp_path / "complete").read_bytes()
    (tmp_path / "journal").write_bytes(content[:cut])
    with Journal(tmp_path / "journal", {"budget_nano": 1}):
        pass
    assert (tmp_path / "journal").read_bytes() == content


def test_a_second_run_does_not_change_the_journal(tmp_path, monkeypatch):
    """Even if the file did not exist yet when the second run checked."""
    with Journal(tmp_path / "journal", {"a": 1}):
        content = (tmp_path / "journal").read_bytes()
        monkeypatch.setattr(Path, "exists", lambda path: False)
        with pytest.raises(UserError, match="another run is using"), Journal(tmp_path / "journal", {"a": 1}):
            pass
        assert (tmp_path / "journal").read_bytes() == content


def test_a_new_journal_survives_a_power_cut(tmp_path, monkeypatch):
    """The entry in its folder must be flushed too."""
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: (synced.append(str(Path(f"/proc/self/fd/{handle}").readlink())), fsync(handle))
    )
    with Journal(tmp_path / "journal", {"a": 1}):
        pass
    assert str(tmp_path) in synced
