"""The replay of random exposures: what matches counts, what does not leaves no trace, no user of training."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from synthetic import arrow_type, make_spec
from toy_campaign import InTurn

from mtorl_model.budget.channel_level import ChannelCounts, channel_level
from mtorl_model.budget.memory import JourneyMemory
from mtorl_model.budget.money import NANO
from mtorl_model.budget.procedure import Campaign, advertise
from mtorl_model.budget.replay import Replay
from mtorl_model.encoding import Encoder
from schemas.dataset import get_dataset
from schemas.errors import UserError
from schemas.paths import Lake
from schemas.publishing import publish, staging_folder
from schemas.splits import TEST, split_of
from schemas.tables import exposures

KUAIRAND = get_dataset("kuairand")
CHANNELS = ("short", "mid", "long")
BEFORE, DAY = "2022-04-21", "2022-04-22"
TESTERS = [user for user in range(400) if split_of(user) == TEST][:5]
_FILL = {"int": 1, "bigint": 7, "double": 2.0, "string": "a"}


def publish_exposures(lake: Lake, day: str, rows: list[dict]) -> None:
    columns = exposures.exposures(KUAIRAND).columns
    schema = pa.schema([(c.name, arrow_type(c.dtype)) for c in columns])
    full = [{c.name: row.get(c.name, _FILL[c.dtype]) for c in columns} for row in rows]
    with staging_folder(lake) as staged:
        pq.write_table(pa.Table.from_pylist(full, schema), staged / "part-00000.parquet")
        publish(lake, exposures.NAME, "kuairand", day, staged, rows=len(rows), inputs={}, code="test")


@pytest.fixture
def lake(tmp_path):
    """Of each user two past exposures, then five random ones, one that is not, and one at the same time as another."""
    lake = Lake(tmp_path)
    rng = np.random.default_rng(0)
    past, log = [], []
    for user in (*TESTERS, *(u for u in range(100) if split_of(u) != TEST)):
        for k in range(2):
            past.append({"user_id": user, "exposure_id": k, "exposed_at_ms": 1000 + k, "channel": "mid",
                         "click": k, "propensity": None})  # fmt: skip
        for k in range(5):
            log.append({"user_id": user, "exposure_id": 10 + k, "exposed_at_ms": 5000 + 10 * k,
                        "channel": str(rng.choice(CHANNELS)), "click": int(rng.random() < 0.5), "long_view": 0,
                        "propensity": 1 / 3})  # fmt: skip
        log.append({**log[-1], "exposure_id": 99, "channel": "short"})
        log.append({**log[-1], "exposure_id": 98, "exposed_at_ms": 5005, "propensity": None})
    order = rng.permutation(len(log))
    publish_exposures(lake, BEFORE, past)
    publish_exposures(lake, DAY, [log[k] for k in order])
    return lake


def replay(lake: Lake) -> Replay:
    return Replay(lake, KUAIRAND, CHANNELS, DAY, DAY, TEST)


def test_matched_offers_have_the_logs_outcome_and_others_none(lake):
    environment = replay(lake)
    assert environment.users.to_pylist() == sorted(TESTERS)
    assert environment.rounds == 4
    log = {
        (row["user_id"], row["exposed_at_ms"]): row
        for row in pq.ParquetFile(lake.partition(exposures.NAME, "kuairand", DAY) / "part-00000.parquet")
        .read()
        .to_pylist()
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
                assert outcome.shown_N[k] == matched
                assert outcome.gains_NG[k].tolist() == [row["click"] * matched, 0]
                assert outcome.cost_nano_N[k] == NANO * matched
        assert not environment.step(number, moment.user_N, np.full(5, 0), bid - 1).shown_N.any()


def test_the_past_comes_first_and_costs_nothing(lake):
    waves = list(replay(lake).reset(""))
    assert [moment.at_ms_N.tolist() for moment, _ in waves] == [[1000] * 5, [1001] * 5]
    assert all(outcome.shown_N.all() and not outcome.cost_nano_N.any() for _, outcome in waves)
    assert waves[1][1].gains_NG[:, 0].tolist() == [1] * 5


def test_a_campaign_stays_within_its_exposures(lake, tmp_path):
    environment = replay(lake)
    spec = make_spec(KUAIRAND, BEFORE, DAY)
    assert spec.channels == CHANNELS
    memory = JourneyMemory(Encoder(spec, KUAIRAND, "binary"), KUAIRAND, environment.profile, 5, 6)
    level = channel_level(CHANNELS, ChannelCounts.none(3))
    ledger = advertise(environment, memory, InTurn(), level, Campaign(4 * NANO, 4), tmp_path / "journal")
    assert ledger.total_nano == 4 * NANO
    assert sum(ledger.exposures) == 4
    assert memory.exposures_UA.sum() == 2 * 5 + 4


def test_days_without_random_exposures_are_one_clear_line(lake):
    with pytest.raises(UserError, match="no random exposures of test users of kuairand"):
        Replay(lake, KUAIRAND, CHANNELS, BEFORE, BEFORE, TEST)
    with pytest.raises(UserError, match="come late"):
        Replay(lake, get_dataset("criteo"), ("a",), DAY, DAY, TEST)
