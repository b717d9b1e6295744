"""The generated logs resemble the published ones, and agree with the truth that is written with them."""

import gzip
import hashlib
import sys
import tempfile
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from jobs import generate_log
from jobs.generator import criteo as criteo_layout
from jobs.generator import files, size
from jobs.generator import kuairand as kuairand_layout
from jobs.generator.behaviour import criteo_world
from jobs.generator.files import SortedLog
from jobs.generator.journeys import Journeys, Visits
from schemas.errors import UserError

KUAIRAND_LOGS = (
    "log_standard_4_08_to_4_21_pure.csv",
    "log_standard_4_22_to_5_08_pure.csv",
    "log_random_4_22_to_5_08_pure.csv",
)
CRITEO_LOG = "criteo_attribution_dataset.tsv.gz"
HEADERS = {
    **dict.fromkeys(
        KUAIRAND_LOGS,
        "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
        "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab",
    ),
    "user_features_pure.csv": (
        "user_id,user_active_degree,is_lowactive_period,is_live_streamer,is_video_author,follow_user_num,"
        "follow_user_num_range,fans_user_num,fans_user_num_range,friend_user_num,friend_user_num_range,register_days,"
        "register_days_range," + ",".join(f"onehot_feat{k}" for k in range(18))
    ),
    "video_features_basic_pure.csv": (
        "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,server_width,server_height,"
        "music_id,music_type,tag"
    ),
    CRITEO_LOG: (
        "timestamp\tuid\tcampaign\tconversion\tconversion_timestamp\tconversion_id\tattribution\tclick\tclick_pos\t"
        "click_nb\tcost\tcpo\ttime_since_last_click\tcat1\tcat2\tcat3\tcat4\tcat5\tcat6\tcat7\tcat8\tcat9"
    ),
}
SAMPLES = Path(__file__).parents[4] / "shared" / "data"


def generate(out: Path, *arguments: str) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["generate_log", "--out", str(out), *arguments])
        generate_log.main()
    return out


@pytest.fixture(scope="module")
def kuairand(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("kuairand") / "log"
    return generate(out, "--layout", "kuairand", "--truth", "--first-day", "2022-04-20", "--users", "2500")


@pytest.fixture(scope="module")
def criteo(tmp_path_factory) -> Path:
    return generate(tmp_path_factory.mktemp("criteo") / "log", "--layout", "criteo", "--truth", "--users", "2500")


def read(path: Path) -> pd.DataFrame:
    return _read(path, path.stat().st_mtime_ns).copy()


@lru_cache(maxsize=8)
def _read(path: Path, _modified_ns: int) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t" if ".tsv" in path.name else ",")


def read_truth(log: Path) -> pd.DataFrame:
    return pd.read_parquet(log.parent / "_truth" / f"{log.name.split('.')[0]}.parquet")


def first_line(path: Path) -> str:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        return file.readline().rstrip("\n")


def fingerprint(folder: Path) -> dict[str, str]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


# --- Layout ---------------------------------------------------------------------------------------------------


def test_files_and_headers_are_the_published_ones(kuairand, criteo):
    written = {p.name: first_line(p) for folder in (kuairand, criteo) for p in folder.iterdir() if p.is_file()}
    assert written == HEADERS


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample logs are not on this machine")
def test_headers_are_those_of_the_samples():
    for folder in (SAMPLES / "KuaiRand-Pure" / "data", SAMPLES / "criteo"):
        for path in folder.iterdir():
            assert first_line(path) == HEADERS[path.name]


@pytest.mark.parametrize("layout", ["kuairand", "criteo"])
def test_bytes_follow_from_the_seed(layout, tmp_path):
    first, repeated, different = (
        fingerprint(generate(tmp_path / name, "--layout", layout, "--users", "40", "--truth", "--seed", seed))
        for name, seed in (("first", "1"), ("repeated", "1"), ("different", "2"))
    )
    assert first == repeated
    if layout == "criteo":
        assert (tmp_path / "first" / CRITEO_LOG).read_bytes()[:10] == b"\x1f\x8b\x08" + bytes(6) + b"\xff"  # no time
    changed = {name for name in first if first[name] != different[name]}
    # The videos and a log without rows do not depend on the seed.
    independent = {"video_features_basic_pure.csv", KUAIRAND_LOGS[0], "_truth/log_standard_4_08_to_4_21_pure.parquet"}
    assert changed == set(first) - independent


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    layout=st.sampled_from(["kuairand", "criteo"]),
    users=st.integers(1, 5),
    days=st.integers(1, 3),
    surplus=st.integers(0, 40),
    seed=st.integers(0, 2**40),
)
def test_any_size_is_a_whole_log(layout, users, days, surplus, seed):
    with tempfile.TemporaryDirectory() as folder:
        arguments = ("--users", users, "--days", days, "--rows", users + surplus, "--seed", seed)
        out = generate(Path(folder) / "log", "--layout", layout, *map(str, arguments))
        names = KUAIRAND_LOGS if layout == "kuairand" else (CRITEO_LOG,)
        log = pd.concat(read(out / name) for name in names)
        assert not any(p.is_dir() for p in out.iterdir())  # neither scratch nor truth
    user, time, day = ("user_id", "time_ms", 86_400_000) if layout == "kuairand" else ("uid", "timestamp", 86_400)
    assert log[user].nunique() == users
    assert log[time].max() // day - log[time].min() // day <= days
    assert log.notna().all(axis=None)


def test_blocks_of_users_make_one_log(tmp_path, monkeypatch):
    monkeypatch.setattr(size, "_BLOCK_ROWS", 200)
    monkeypatch.setattr(files, "_SLICE_ROWS", 100)
    out = generate(tmp_path / "log", "--layout", "kuairand", "--users", "60", "--truth")
    users, log = read(out / "user_features_pure.csv"), read(out / KUAIRAND_LOGS[2])
    assert users["user_id"].tolist() == list(range(60))
    assert log["time_ms"].is_monotonic_increasing
    assert read_truth(out / KUAIRAND_LOGS[2])["row"].tolist() == list(range(len(log)))
    assert 800 < sum(len(read(out / name)) for name in KUAIRAND_LOGS) < 1_600


def test_slices_come_back_sorted_and_stable(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_SLICE_ROWS", 10)
    log = SortedLog(tmp_path / "scratch", "t", first=100, span=50, rows=60)
    times = np.random.default_rng(0).integers(100, 150, 60)
    for part in (slice(0, 25), slice(25, 60)):
        log.add(pa.table({"t": times[part], "came": np.arange(60)[part]}))
    slices = list(log.slices())
    rows = pa.concat_tables(slices)
    assert len(slices) == 7
    assert rows["came"].to_pylist() == np.argsort(times, kind="stable").tolist()


# --- KuaiRand -------------------------------------------------------------------------------------------------


def test_kuairand_has_the_quirks_of_the_published_log(kuairand):
    random, users = read(kuairand / KUAIRAND_LOGS[2]), read(kuairand / "user_features_pure.csv")
    videos = read(kuairand / "video_features_basic_pure.csv")
    assert random.duplicated(["user_id", "time_ms"]).mean() > 0.03
    assert 1 <= random.duplicated().sum() < 20
    assert (random["duration_ms"] == 0).mean() == pytest.approx(0.031, abs=0.006)
    assert videos["video_duration"].isna().sum() == 239
    no_duration = videos.loc[videos["video_duration"].isna(), "video_id"]
    assert (random["video_id"].isin(no_duration) == (random["duration_ms"] == 0)).all()
    assert set(users["is_live_streamer"]) == {1, -124}
    assert set(users.columns[users.isna().any()]) == {f"onehot_feat{k}" for k in (4, *range(12, 18))}
    assert (random["tab"] == 1).mean() == pytest.approx(0.993, abs=0.004)
    assert (random["is_rand"] == 1).all()
    user_text, video_text = ((kuairand / f"{name}.csv").read_text() for name in
                             ("user_features_pure", "video_features_basic_pure"))  # fmt: skip
    assert '"(250,500]"' in user_text
    assert videos["tag"].str.contains(",").mean() == pytest.approx(0.24, abs=0.03)
    assert videos["tag"].isna().any()
    assert all(line.endswith('"') for line in video_text.splitlines() if line.count(",") > 11)


def test_kuairand_rates_resemble_the_published_ones(kuairand):
    random = read(kuairand / KUAIRAND_LOGS[2])
    assert random["is_click"].mean() == pytest.approx(0.176, abs=0.015)
    assert random["long_view"].mean() == pytest.approx(0.085, abs=0.01)
    assert random["is_like"].mean() == pytest.approx(0.005, abs=0.002)
    assert (random["is_click"] >= random["long_view"]).all()
    long_view = random["play_time_ms"] >= np.minimum(18_000, random["duration_ms"])
    has_duration = random["duration_ms"] > 18_000
    assert (long_view == (random["long_view"] == 1))[has_duration].all()
    assert ((random["play_time_ms"] >= 7_000) == (random["is_click"] == 1))[has_duration].all()


def date_number(time: pd.Series) -> pd.Series:
    """2022-04-20 as 20220420."""
    return time.dt.year.astype("int64") * 10_000 + time.dt.month * 100 + time.dt.day


def test_kuairand_clocks(kuairand):
    for name in KUAIRAND_LOGS:
        log = read(kuairand / name)
        local = pd.to_datetime(log["time_ms"], unit="ms", utc=True).dt.tz_convert(ZoneInfo("Asia/Shanghai"))
        stamped = log["date"] * 10_000 + log["hourmin"]
        late = stamped != date_number(local) * 10_000 + local.dt.hour * 100
        next_midnight = date_number(local + pd.Timedelta(days=1)) * 10_000
        assert (stamped[late] == next_midnight[late]).all()
        assert local[late].dt.hour.eq(23).all()
        assert late.any() == ("standard" in name)
        assert log["time_ms"].is_monotonic_increasing
        days = date_number(local)
        span = (20220420, 20220421) if "4_08" in name else (20220422, 20220426)
        assert (days.min(), days.max()) == span


def test_readers_see_the_channel_that_was_shown(kuairand):
    videos = read(kuairand / "video_features_basic_pure.csv").set_index("video_id")["video_duration"]
    low, high = videos.quantile([1 / 3, 2 / 3])
    for name in KUAIRAND_LOGS:
        duration_ms = read(kuairand / name)["video_id"].map(videos)
        seen = np.select([duration_ms <= low, duration_ms <= high, duration_ms > high], ["short", "mid", "long"], "")
        assert (read_truth(kuairand / name)["channel"].fillna("") == seen).all()


def test_standard_logs_can_be_header_only(tmp_path):
    out = generate(tmp_path / "log", "--layout", "kuairand", "--users", "30", "--no-standard-log")
    assert [len(read(out / name)) > 0 for name in KUAIRAND_LOGS] == [False, False, True]
    with pytest.raises(UserError, match="leaves no rows before 2022-04-22"):
        generate(
            tmp_path / "none", "--layout", "kuairand", "--no-standard-log", "--first-day", "2022-04-20", "--days", "2"
        )


# --- Criteo ---------------------------------------------------------------------------------------------------


def test_criteo_has_the_quirks_of_the_published_log(criteo):
    log = read(criteo / CRITEO_LOG)
    assert log["timestamp"].is_monotonic_increasing
    assert log["timestamp"].min() >= 0
    assert log["timestamp"].max() < 7 * 86_400
    assert log.duplicated(["uid", "timestamp"]).mean() > 0.03
    assert 1 <= log.duplicated().sum() < 20
    assert {str(log[c].dtype) for c in ("cost", "cpo")} == {"float64"}
    assert {str(t) for t in log.drop(columns=["cost", "cpo"]).dtypes} == {"int64"}
    assert log["cat8"].nunique() == 11
    assert log["cat8"].value_counts(normalize=True).iloc[0] == pytest.approx(0.6, abs=0.04)
    by_user = log.sort_values(["uid", "timestamp"], kind="stable")
    previous = by_user.groupby("uid")["cat8"].shift()
    assert (by_user["cat8"] == previous)[previous.notna()].mean() > 0.6
    assert log["click"].mean() == pytest.approx(0.36, abs=0.02)
    assert log["conversion"].mean() == pytest.approx(0.049, abs=0.015)
    for name in ("conversion_timestamp", "conversion_id", "click_pos", "click_nb"):
        assert ((log[name] == -1) == (log["conversion"] == 0)).all()
    assert (log.loc[log["conversion"] == 0, "attribution"] == 0).all()


def test_conversions_mark_their_whole_path(criteo):
    log = read(criteo / CRITEO_LOG).drop_duplicates()
    path = log[log["conversion"] == 1]
    assert (path["click"] == 1).all()
    assert (path["conversion_timestamp"] > path["timestamp"]).all()
    assert path["conversion_timestamp"].max() < 7 * 86_400
    converts_at = path.groupby("uid")["conversion_timestamp"].unique().to_dict()
    for row in log[(log["click"] == 1) & log["uid"].isin(converts_at)].itertuples():
        later = [time_s for time_s in converts_at[row.uid] if time_s > row.timestamp]
        assert row.conversion_timestamp == min(later, default=-1)
    events = path.groupby(["uid", "conversion_timestamp"])
    assert (events[["conversion_id", "attribution", "click_nb"]].nunique() == 1).all(axis=None)
    assert (events["click_nb"].first() == events.size()).all()
    assert all(sorted(positions) == list(range(len(positions))) for _, positions in events["click_pos"])
    cause = read_truth(criteo / CRITEO_LOG).query("sets_off == 1").groupby("uid")["timestamp"].min()
    assert all(cause[uid] < converts_at_s for uid, converts_at_s in events.groups)


def test_a_path_ends_before_its_conversion_and_reaches_back_thirty_days():
    day = 86_400
    #          user, time s, click, sets a conversion going, delay s
    # fmt: off
    rows = [(0, 5, True, False, 0.0),  # more than thirty days before the conversion
            (0, 2 * day, True, True, 30.0 * day - 1),  # converts at 32 days, to the second
            (0, 9 * day, False, False, 0.0),  # not a click
            (0, 9 * day, True, False, 0.0),
            (0, 32 * day, True, True, 0.4),  # in the second of the conversion: no longer on its path
            (1, 9 * day, True, False, 0.0)]  # another user
    # fmt: on
    user_R, time_R, click_R, converts_R, delay_R = map(np.array, zip(*rows, strict=True))
    zeros_RC = np.zeros((6, 11), np.float32)
    journeys = Journeys(np.zeros((2, 5)), np.zeros(6, int), click_R, converts_R, delay_R, np.zeros(6), *[zeros_RC] * 3)
    visits = Visits(user_R, time_R * 1000)
    rng = np.random.default_rng(0)
    log = criteo_layout.log_rows(criteo_world(), visits, journeys, user_R, end_s=60 * day, rng=rng)
    converts_at = 32 * day
    assert log["conversion_timestamp"].tolist() == [-1, converts_at, -1, converts_at, converts_at + 1, -1]
    assert log["conversion"].tolist() == [0, 1, 0, 1, 1, 0]
    assert log["click_pos"].tolist() == [-1, 0, -1, 1, 0, -1]
    assert log["click_nb"].tolist() == [-1, 2, -1, 2, 1, -1]


def test_another_seed_has_other_people(tmp_path):
    logs = [generate(tmp_path / s, "--layout", "criteo", "--users", "50", "--seed", s) / CRITEO_LOG for s in "01"]
    uids = [set(read(log)["uid"]) for log in logs]
    assert [len(u) for u in uids] == [50, 50]
    assert uids[0].isdisjoint(uids[1])


def test_time_since_last_click_is_of_earlier_rows(criteo):
    log = read(criteo / CRITEO_LOG).drop_duplicates().sort_values(["uid", "timestamp"], kind="stable")
    last_click = log["timestamp"].where(log["click"] == 1).groupby(log["uid"]).ffill()
    earlier_click = last_click.groupby(log["uid"]).shift()
    assert (log["time_since_last_click"] == (log["timestamp"] - earlier_click).fillna(-1)).all()
    assert (log["time_since_last_click"] == -1).mean() > 0.05


# --- Truth ----------------------------------------------------------------------------------------------------


def cases(kuairand: Path, criteo: Path):
    """Each log with its truth and the names of its user and time columns."""
    for path in (*(kuairand / name for name in KUAIRAND_LOGS), criteo / CRITEO_LOG):
        log, truth = read(path), read_truth(path)
        keys = ["user_id", "time_ms"] if "kuairand" in str(path) else ["uid", "timestamp"]
        assert truth["row"].tolist() == list(range(len(log)))
        pd.testing.assert_frame_equal(log[keys], truth[keys])
        yield log, truth, keys


def assert_calibrated(outcome: pd.Series, chance: pd.Series) -> None:
    """In each of ten bins of equal size the number of outcomes agrees with their probabilities within 4.5 sigma."""
    for _, p in chance.astype(float).groupby(pd.qcut(chance, 10, duplicates="drop"), observed=True):
        surplus = outcome[p.index].sum() - p.sum()
        assert abs(surplus) < 4.5 * np.sqrt((p * (1 - p)).sum()) + 1


def test_outcomes_follow_the_true_chances(kuairand, criteo):
    for log, truth, (user, _) in cases(kuairand, criteo):
        if user == "user_id":
            assert_calibrated(log["is_click"], truth["click_shown"])
            assert_calibrated(log["long_view"], truth["long_view_shown"])
        else:
            assert_calibrated(log["click"], truth["click_shown"])
            assert_calibrated(truth["sets_off"], truth["conversion_shown"])


def test_shown_is_the_chance_of_the_shown_channel(kuairand, criteo):
    for _, truth, (user, _) in cases(kuairand, criteo):
        gain = "long_view" if user == "user_id" else "conversion"
        for channel, rows in truth.groupby("channel"):
            assert (rows["click_shown"] == rows[f"click_{channel}"]).all()
            assert (rows[f"{gain}_shown"] == rows[f"{gain}_{channel}"]).all()


def test_channels_are_drawn_with_the_true_propensities(kuairand, criteo):
    for _, truth, _ in cases(kuairand, criteo):
        propensity = truth.filter(regex="^propensity_").astype(float)
        np.testing.assert_allclose(propensity.sum(axis=1), 1, atol=1e-5)
        for name in propensity:
            is_shown = truth["channel"].fillna("unknown") == name.removeprefix("propensity_")
            assert_calibrated(is_shown, propensity[name])


def test_random_exposures_are_drawn_from_the_pool_and_standard_ones_by_taste(kuairand):
    random, standard = (read_truth(kuairand / name) for name in (KUAIRAND_LOGS[2], KUAIRAND_LOGS[1]))
    assert random["propensity_short"].nunique() == 1
    assert standard["propensity_short"].std() > 0.1
    exposures = np.bincount(read(kuairand / KUAIRAND_LOGS[2])["video_id"], minlength=7_583)
    chi_square = ((exposures - exposures.mean()) ** 2 / exposures.mean()).sum()
    assert abs(chi_square - 7_582) < 5 * np.sqrt(2 * 7_582)


def test_the_profile_hints_at_the_lasting_interests(kuairand):
    hint = read(kuairand / "user_features_pure.csv").set_index("user_id")["onehot_feat9"]
    appeal = read_truth(kuairand / KUAIRAND_LOGS[2]).groupby("user_id")["click_mid"].mean()
    assert np.corrcoef(hint[appeal.index], appeal)[0, 1] > 0.2


def test_history_tells_of_the_next_click(kuairand, criteo):
    """A smoothed click rate by user and channel ranks clicks well; the truth, as an upper bound, far better."""
    for log, truth, (user, time) in list(cases(kuairand, criteo))[2:]:
        click = "is_click" if user == "user_id" else "click"
        rows = log.assign(channel=truth["channel"].fillna("unknown"), chance=truth["click_shown"])
        rows = rows.drop_duplicates().sort_values([user, time], kind="stable")
        rate, prior = rows[click].mean(), 4
        for keys in ([user], [user, "channel"]):
            earlier = rows.groupby(keys)[click]
            rate = (earlier.cumsum() - rows[click] + prior * rate) / (earlier.cumcount() + prior)
        assert roc_auc_score(rows[click], rate) > 0.65
        assert roc_auc_score(rows[click], rows["chance"]) > 0.78


# --- Errors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layout", "kuairand", "--users", "0"], "at least 1 user"),
        (["--layout", "kuairand", "--users", "10", "--rows", "9"], "at least 10"),
        (["--layout", "kuairand", "--days", "0"], "choose 1 to"),
        (["--layout", "kuairand", "--seed", "-1"], "choose 0 or more"),
        (["--layout", "kuairand", "--first-day", "22.4.2022"], "is not a day"),
        (["--layout", "kuairand", "--first-day", "2021-12-31"], "from 2022 to 2023"),
        (["--layout", "kuairand", "--first-day", "2023-12-01", "--days", "32"], "from 2022 to 2023"),
        (["--layout", "criteo", "--first-day", "2022-04-22"], "belong to the kuairand layout"),
        (["--layout", "criteo", "--days", "367"], "room for 366"),
        (["--layout", "criteo", "--no-standard-log"], "belong to the kuairand layout"),
        (["--layout", "criteo", "--users", "40000000"], "ids for"),
        (["--layout", "netflix"], "invalid choice"),
    ],
)
def test_a_wrong_argument_is_one_line_and_leaves_nothing(arguments, message, tmp_path):
    with pytest.raises(UserError, match=message):
        generate(tmp_path / "log", *arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="not an empty folder"):
        generate(tmp_path, "--layout", "criteo")
    with pytest.raises(UserError, match="not an empty folder"):
        generate(tmp_path / "mine.txt", "--layout", "criteo")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["precious"]


def test_an_empty_folder_is_filled(tmp_path):
    generate(tmp_path / "log", "--layout", "criteo", "--users", "3")
    (tmp_path / "empty").mkdir()
    generate(tmp_path / "empty", "--layout", "criteo", "--users", "3")
    assert fingerprint(tmp_path / "empty") == fingerprint(tmp_path / "log")


def test_a_run_that_breaks_off_leaves_nothing(tmp_path, monkeypatch):
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kuairand_layout, "write_log", full_disk)
    with pytest.raises(OSError, match="No space"):
        generate(tmp_path / "log", "--layout", "kuairand", "--users", "3")
    assert list(tmp_path.iterdir()) == []
