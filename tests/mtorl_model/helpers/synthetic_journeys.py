"""A toy dataset, its spec, and journeys computed step by step from plain lists of exposures."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.lake import Lake
from lakehouse.storage.scratch import work_folder
from schemas.contract import Column, Known, Role
from schemas.dataset import Dataset, Derived, Gain, RawColumn, RawFile
from schemas.steps import MEMORY_STEPS
from schemas.tables.feature_spec import Feature, FeatureSpec, RewardScale

GAINS = ("click", "sale")
CHANNELS = ("left", "mid", "right")
GAP_S = 60.0
RAW_COLUMNS = (
    RawColumn("user_id"), RawColumn("time_ms"), RawColumn("channel", "string"), RawColumn("cost", "double"),
    RawColumn("click"), RawColumn("sale"), RawColumn("campaign", "string"), RawColumn("hour"),
    RawColumn("age", "double"),
)  # fmt: skip


def toy_dataset(user_dtype: str = "bigint") -> Dataset:
    return Dataset(
        name="toy",
        title="toy",
        log=RawFile("log", ("log.csv",), RAW_COLUMNS),
        log_key=("user_id", "time_ms"),
        user_id=Derived(Column("user_id", user_dtype, "the user"), "log.user_id"),
        exposed_at_ms="log.time_ms",
        timezone="UTC",
        channel="log.channel",
        cost="log.cost",
        gains=(Gain("click", 1.0), Gain("sale", 3.0)),
        columns=(
            Derived(Column("click", "int", "1 if clicked", Known.AFTER), "log.click"),
            Derived(Column("sale", "int", "1 if sold", Known.AFTER), "log.sale"),
            Derived(Column("campaign", "string", "the campaign", Known.AFTER, True, Role.CATEGORICAL), "log.campaign"),
            Derived(Column("hour", "int", "hour", Known.BEFORE, False, Role.CATEGORICAL), "log.hour"),
            Derived(Column("age", "double", "years", Known.BEFORE, True, Role.NUMERIC, static=True), "log.age"),
        ),
    )


SPEC = FeatureSpec(
    dataset="toy",
    first_day="2024-01-01",
    last_day="2024-01-02",
    channels=CHANNELS,
    gains=GAINS,
    gain_weights=(1.0, 3.0),
    reward=RewardScale(penalty=0.5, low=-0.5, high=4.0),
    features=(
        Feature("hour", "categorical", False, True, vocabulary=tuple(str(h) for h in range(24))),
        Feature("last_campaign", "categorical", False, True, vocabulary=("spring", "summer")),
        Feature("gap_s", "numeric", False, True, mean=3.0, std=1.0, unit=1.0),
        Feature("since_click_s", "numeric", False, False, reason="mostly missing", missing_share=0.9),
        Feature("age", "numeric", True, True, mean=40.0, std=10.0),
    ),
)


@dataclass(frozen=True)
class Shown:
    """An exposure; its position in the user's list is its minute."""

    channel: str | None
    click: int = 0
    sale: int = 0
    campaign: str | None = "spring"
    cost: float = 0.25


def _counts(exposures: list[Shown]) -> list[dict[str, object]]:
    """Sparse counts by channel, ordered by name; unknown channels count under ''."""
    names = sorted({e.channel or "" for e in exposures})
    return [
        {
            "channel": name,
            "exposures": sum((e.channel or "") == name for e in exposures),
            **{g: sum(getattr(e, g) for e in exposures if (e.channel or "") == name) for g in GAINS},
        }
        for name in names
    ]


def step_inputs(history: list[Shown], hour: int) -> dict[str, object]:
    """The inputs of the exposure that follows `history`."""
    new = history[-1:]
    return {
        "hour": hour,
        "last_campaign": history[-1].campaign if history else None,
        "last_channel": history[-1].channel if history else None,
        "gap_s": GAP_S if history else 0.0,
        **{
            f"since_{g}_s": next((k * GAP_S for k, e in enumerate(reversed(history), 1) if getattr(e, g)), None)
            for g in GAINS
        },
        "seen_exposures": len(history),
        **{f"seen_{g}": sum(getattr(e, g) for e in history) for g in GAINS},
        "new_exposures": len(new),
        **{f"new_{g}": sum(getattr(e, g) for e in new) for g in GAINS},
        "new_cost": sum(e.cost for e in new),
        "seen_by_channel": _counts(history),
        "new_by_channel": _counts(new),
    }


def steps_of(user_number: int, exposures: list[Shown]) -> list[dict[str, object]]:
    """All of a user's steps, outcome and inputs."""
    return [
        {
            "exposure_id": 1000 * user_number + t,
            "exposed_at_ms": int(t * GAP_S * 1000),
            "channel": exposure.channel,
            "click": exposure.click,
            "sale": exposure.sale,
            "cost": exposure.cost,
            **step_inputs(exposures[:t], hour=t % 24),
        }
        for t, exposure in enumerate(exposures)
    ]


def _last_gain_at_ms(exposures: list[Shown], gain: str) -> int | None:
    return max((int(t * GAP_S * 1000) for t, e in enumerate(exposures) if getattr(e, gain)), default=None)


_COUNTS = pa.list_(pa.struct([("channel", pa.string()), ("exposures", pa.int32()), *((g, pa.int32()) for g in GAINS)]))
_INPUTS = [
    ("hour", pa.int32()),
    ("last_campaign", pa.string()),
    ("last_channel", pa.string()),
    ("gap_s", pa.float64()),
    *((f"since_{g}_s", pa.float64()) for g in GAINS),
    *((f"{prefix}_{event}", pa.int32()) for prefix in ("seen", "new") for event in ("exposures", *GAINS)),
    ("new_cost", pa.float64()),
    ("seen_by_channel", _COUNTS),
    ("new_by_channel", _COUNTS),
]
_OUTCOME = [
    ("exposure_id", pa.int64()),
    ("exposed_at_ms", pa.int64()),
    ("channel", pa.string()),
    *((g, pa.int32()) for g in GAINS),
    ("cost", pa.float64()),
]
_PENDING = pa.list_(pa.struct([("known_at_ms", pa.int64()), ("channel", pa.string()), ("gain", pa.string())]))


def publish_journeys(lake: Lake, day: str, table: pa.Table, *, files: int = 1, rows_per_group: int = 1000) -> str:
    """Publish the table as the partition of that day, split into files; returns its fingerprint."""
    with work_folder() as staged:
        size = -(-len(table) // max(files, 1))
        for part in range(files):
            rows = table.slice(part * size, size)
            pq.write_table(rows, staged / f"part-{part:05d}.parquet", row_group_size=rows_per_group)
        return lake["journeys", "toy", day].publish(staged, inputs={}, code="test").fingerprint


def journeys(users: dict[int, list[Shown]] | dict[str, list[Shown]]) -> pa.Table:
    """The table `journeys` of the toy dataset, with one row per user in the given order."""
    rows = [
        {
            "user_id": user,
            "age": 30.0 + number,
            "memory": steps_of(number, exposures)[-MEMORY_STEPS:],
            "next_step": step_inputs(exposures, hour=(len(exposures) - 1) % 24),
            "seen_cost_nano": int(sum(e.cost for e in exposures) * 1e9),
            "last_gain_at_ms": {g: _last_gain_at_ms(exposures, g) for g in GAINS},
            "pending": [],
        }
        for number, (user, exposures) in enumerate(users.items())
    ]
    user_type = pa.string() if any(isinstance(user, str) for user in users) else pa.int64()
    return pa.Table.from_pylist(
        rows,
        pa.schema(
            [
                ("user_id", user_type),
                ("age", pa.float64()),
                ("memory", pa.list_(pa.struct(_OUTCOME + _INPUTS))),
                ("next_step", pa.struct(_INPUTS)),
                ("seen_cost_nano", pa.int64()),
                ("last_gain_at_ms", pa.struct([(g, pa.int64()) for g in GAINS])),
                ("pending", _PENDING),
            ]
        ),
    )
