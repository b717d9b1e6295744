"""The replay of random exposures: only matched offers count, and no user of the training appears."""

import json
import re
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from synthetic import make_spec, write_lake
from toy_campaign import InTurn

from lakehouse.arrow_types import arrow_type
from lakehouse.lake import Lake
from lakehouse.models.versions import Version
from lakehouse.storage.scratch import work_folder
from mtorl_model import replay_campaign
from mtorl_model.budget.environment import Outcome
from mtorl_model.budget.memory import JourneyMemory
from mtorl_model.budget.procedure import Campaign, advertise
from mtorl_model.budget.replay import Replay, accept
from mtorl_model.champion.registry import Registry
from mtorl_model.data.encoding import Encoder
from mtorl_model.data.initial_policy import fit_initial_policy
from mtorl_model.data.money import NANO
from mtorl_model.data.windows.store import open_windows
from mtorl_model.inference.channel_level import ChannelCounts, channel_level
from mtorl_model.methods.mtorl.config import LossConfig, ModelConfig, MTORLConfig
from mtorl_model.methods.mtorl.method import MTORL
from mtorl_model.training.config import TrainConfig
from schemas.dataset import get_dataset
from schemas.errors import UserError
from schemas.splits import TEST, TRAIN, split_of
from schemas.tables import EXPOSURES, exposures

KUAIRAND = get_dataset("kuairand")
CHANNELS = ("short", "mid", "long")
PAST_DAY, DAY = "2022-04-21", "2022-04-22"
TESTERS = [user for user in range(400) if split_of(user) == TEST][:5]
LONG_PAST = 45  # exposures of the first user's past: more than a journey remembers
_FILL = {"int": 1, "bigint": 7, "double": 2.0, "string": "a"}


def publish_exposures(lake: Lake, day: str, rows: list[dict]) -> None:
    columns = exposures.exposures(KUAIRAND).columns
    schema = pa.schema([(c.name, arrow_type(c.dtype)) for c in columns])
    full = [{c.name: row.get(c.name, _FILL[c.dtype]) for c in columns} for row in rows]
    with work_folder() as staged:
        pq.write_table(pa.Table.from_pylist(full, schema), staged / "part-0.parquet")
        lake[EXPOSURES, "kuairand", day].publish(staged, inputs={}, code="test")


@pytest.fixture
def lake(tmp_path):
    """For each user two past exposures and five random ones, one of them twice, and one that was not random."""
    lake = Lake(tmp_path)
    rng = np.random.default_rng(0)
    past, log = [], []
    for user in (*TESTERS, *(u for u in range(100) if split_of(u) != TEST)):
        for k in range(LONG_PAST if user == TESTERS[0] else 2):
            past.append({"user_id": user, "exposure_id": k, "exposed_at_ms": 1000 + k, "channel": "mid",
                         "click": k % 2, "propensity": None})  # fmt: skip
        for k in range(5):
            log.append({"user_id": user, "exposure_id": 10 + k, "exposed_at_ms": 5000 + 10 * k,
                        "channel": str(rng.choice(CHANNELS)), "click": int(rng.random() < 0.5), "long_view": 0,
                        "propensity": 1 / 3})  # fmt: skip
        log.append({**log[-1], "exposure_id": 99, "channel": "short"})
        log.append({**log[-1], "exposure_id": 98, "exposed_at_ms": 5005, "propensity": None})
    order = rng.permutation(len(log))
    publish_exposures(lake, PAST_DAY, past)
    publish_exposures(lake, DAY, [log[k] for k in order])
    return lake


def replay(lake: Lake) -> Replay:
    return Replay(lake, KUAIRAND, CHANNELS, DAY, DAY, TEST)


def test_only_matched_offers_get_the_logged_outcome(lake):
    environment = replay(lake)
    assert environment.users.to_pylist() == sorted(TESTERS)
    assert environment.rounds == 4
    log = {
        (row["user_id"], row["exposed_at_ms"]): row
        for row in lake[EXPOSURES, "kuairand", DAY].read().to_pylist()
        if row["propensity"] is not None and row["exposure_id"] != 99
    }
    for number in range(5):
        moment = environment.moment(number)
        assert moment.user_N.tolist() == list(range(5))
        bid = np.full(5, NANO)
        for channel in range(3):
            outcome = environment.step(number, moment.user_N, np.full(5, channel), bid)
            for k, user in enumerate(sorted(TESTERS)):
                row = log[user, int(outcome.at_ms_N[k])]
                matched = row["channel"] == CHANNELS[channel]
                assert outcome.exposed_N[k] == matched
                assert outcome.gains_NG[k].tolist() == [row["click"] * matched, 0]
                assert outcome.cost_nano_N[k] == NANO * matched
        assert not environment.step(number, moment.user_N, np.full(5, 0), bid - 1).exposed_N.any()


def test_the_past_comes_first_and_costs_nothing(lake):
    waves = list(replay(lake).reset(""))
    assert len(waves) == LONG_PAST  # all of it, because the nightly counts cover all time too
    assert [moment.at_ms_N.tolist() for moment, _ in waves[:3]] == [[1000] * 5, [1001] * 5, [1002]]
    assert all(outcome.exposed_N.all() and not outcome.cost_nano_N.any() for _, outcome in waves)
    assert waves[1][1].gains_NG[:, 0].tolist() == [1] * 5


def test_a_campaign_stays_within_its_exposures(lake, tmp_path):
    environment = replay(lake)
    spec = make_spec(KUAIRAND, PAST_DAY, DAY)
    assert spec.channels == CHANNELS
    memory = JourneyMemory(Encoder(spec, KUAIRAND), KUAIRAND, environment.profile, 5, 6)
    level = channel_level(CHANNELS, ChannelCounts.zeros(3))
    ledger = advertise(environment, memory, InTurn(), level, Campaign(4 * NANO, 4), tmp_path / "journal")
    assert ledger.total_nano == 4 * NANO
    assert sum(ledger.exposures) == 4
    assert memory.exposures_UA.sum() == LONG_PAST + 2 * 4 + 4
    # The campaign pays for a matched exposure. Journeys have no costs, like the log from which the model has learned.
    assert not memory._seen.cost_nano_U.any()


def test_every_channel_is_matched_with_the_same_probability():
    """Otherwise the sample would favour users and times at which the offered channel was drawn often."""
    rng, n = np.random.default_rng(1), 60_000
    day = rng.integers(0, 2, n)
    share_DC = np.array([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]])  # the propensities change from day to day
    channel = (rng.random(n)[:, None] > np.cumsum(share_DC, axis=1)[day]).sum(axis=1)
    accepted = accept(share_DC[day, channel], np.random.default_rng(0))
    reward = 0.1 + 0.5 * day  # the reward depends only on the day
    for c in range(3):
        matched = accepted & (channel == c)
        assert matched.mean() == pytest.approx(0.1, abs=0.005)  # the lowest of all propensities
        assert reward[matched].mean() == pytest.approx(reward.mean(), abs=0.015)
    assert abs(reward[channel == 0].mean() - reward.mean()) > 0.1  # the bias of matching without acceptance


def test_exposures_that_are_not_accepted_do_not_count(lake, monkeypatch):
    monkeypatch.setattr("mtorl_model.budget.replay.accept", lambda propensity_N, rng: np.zeros(len(propensity_N), bool))
    environment = replay(lake)
    users = np.arange(5)
    assert not any(environment.step(1, users, np.full(5, c), np.full(5, NANO)).exposed_N.any() for c in range(3))


def test_other_exposures_change_the_fingerprint(lake):
    first = replay(lake).fingerprint
    assert replay(lake).fingerprint == first
    publish_exposures(lake, PAST_DAY, [{"user_id": TESTERS[0], "exposed_at_ms": 999, "channel": "mid"}])
    assert replay(lake).fingerprint != first


DAYS = ["--from", DAY, "--to", DAY]


@pytest.fixture
def campaign(lake, tmp_path, monkeypatch, capsys):
    """Runs the command on this lake, with an untrained champion of the day before; returns its output."""
    synthetic, spec = write_lake(tmp_path / "synthetic", last_day="2022-04-10", users=30)
    config = MTORLConfig(ModelConfig(hidden=16, steps=6), LossConfig(), TrainConfig())
    encoder = Encoder(spec, KUAIRAND)
    store = open_windows(synthetic, encoder, spec.first_day, spec.last_day, TRAIN)
    model = MTORL(config, spec, fit_initial_policy(store, spec)).initialise()
    version = Version("mtorl_kuairand/1", 1, "run", PAST_DAY, "")
    monkeypatch.setattr(Registry, "champion_before", lambda _, day: version if version.day < day else None)
    monkeypatch.setattr(Registry, "load", lambda _, version: model)
    monkeypatch.setattr(replay_campaign, "open_windows", lambda *_: store)

    def run(*arguments: str, days: list[str] = DAYS) -> str:
        monkeypatch.setattr(sys, "argv", ["replay", "--dataset", "kuairand", "--lake", str(lake.root), *days,
                                          *arguments])  # fmt: skip
        replay_campaign.main()
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("strategy", ["pairs", "composed", "published", "random"])
def test_the_command_prints_the_mean_gains(campaign, tmp_path, strategy):
    arguments = ("--budget", "9", "--journal", str(tmp_path / "journal"), "--strategy", strategy)
    lines = campaign(*arguments).splitlines()
    exposures = int(re.match(rf"{strategy}: (\d+) exposures of 9 in", lines[0])[1])
    assert 0 < exposures <= 9
    outcomes = [json.loads(line[9:]) for line in (tmp_path / "journal").read_text().splitlines() if '"answer"' in line]
    clicks = sum(gains[0] for outcome in outcomes for gains in outcome["gains_NG"])
    assert lines[1].split()[:2] == ["click", f"{clicks / exposures:.4f}"]
    assert campaign(*arguments).splitlines() == lines  # from the end of the journal
    assert "too few users for an interval" in lines[1]


def test_an_interval_is_over_users(monkeypatch):
    """Two thousand exposures of forty users who always or never click: the interval is that of forty users."""
    user = np.repeat(np.arange(40), 50)
    gains = np.stack([user % 2, np.zeros(2000, int)], axis=1)
    outcome = Outcome(user, user, user, np.ones(2000, bool), gains, user * 0)
    click_line, long_view_line = replay_campaign.mean_gains([outcome], ("click", "long_view"))
    low, high = map(float, re.search(r"0.5000 \[(\S+), (\S+)\]", click_line).groups())
    assert 0.3 < low < 0.42
    assert 0.58 < high < 0.7
    assert "0.0000 [0.0000, 0.0000]" in long_view_line


@pytest.mark.parametrize(
    ("arguments", "days", "message"),
    [
        (("--rounds", "0"), DAYS, "--rounds 0: at least 1"),
        (("--seed", "-1"), DAYS, "--seed -1: at least 0"),
        (
            (),
            ["--from", PAST_DAY, "--to", DAY],
            "every champion of kuairand .* was trained on 2022-04-21 or later",
        ),
    ],
)
def test_arguments_that_cannot_run_are_refused(campaign, tmp_path, arguments, days, message):
    with pytest.raises(UserError, match=message):
        campaign("--budget", "9", "--journal", str(tmp_path / "journal"), *arguments, days=days)
    assert not (tmp_path / "journal").exists()


def test_an_unknown_strategy_is_refused_before_any_reading(campaign, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        campaign("--budget", "9", "--journal", str(tmp_path / "journal"), "--strategy", "best")
    assert end.value.code == 2
    assert "choose from" in capsys.readouterr().err


def test_days_without_random_exposures_are_refused(lake):
    with pytest.raises(UserError, match="no random exposures of test users of kuairand"):
        Replay(lake, KUAIRAND, CHANNELS, PAST_DAY, PAST_DAY, TEST)
    with pytest.raises(UserError, match="become known late"):
        Replay(lake, get_dataset("criteo"), ("a",), DAY, DAY, TEST)
