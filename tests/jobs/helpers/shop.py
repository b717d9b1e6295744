"""An invented shop's newsletters: a third dataset, and a small log of it, a file a day."""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

from raw_logs import header

from schemas.contract import Column, Known, Role
from schemas.dataset import Dataset, Derived, Gain, RawColumn, RawFile, Refusal
from schemas.tables.feature_spec import Feature, FeatureSpec, RewardScale

# Semicolons, ISO times, text ids, money, an outcome that arrives late, and no side tables.
SHOP = Dataset(
    name="shop",
    title="An invented shop's newsletters",
    log=RawFile(
        "log",
        ("sent-*.txt",),
        (
            RawColumn("customer", "string"), RawColumn("sent", "string"), RawColumn("medium", "string"),
            RawColumn("price", "double"), RawColumn("opened"), RawColumn("bought", "string", nullable=True),
            RawColumn("age", "double", nullable=True),
        ),
        separator=";",
    ),
    log_key=("customer", "sent", "medium"),
    user_id=Derived(Column("user_id", "string", "the customer"), "log.customer"),
    exposed_at_ms="epoch_ms(try_cast(log.sent AS timestamptz))",
    timezone="Europe/Berlin",
    channel="lower(log.medium)",
    cost="log.price",
    gains=(Gain("open", 1.0), Gain("order", 5.0)),
    columns=(
        Derived(Column("open", "int", "1 if opened", Known.AFTER), "cast(log.opened AS int)"),
        Derived(Column("order", "int", "1 if ordered", Known.AT, known_at="order_at_ms"),
                "cast(log.bought IS NOT NULL AS int)"),
        Derived(Column("order_at_ms", "bigint", "when ordered", Known.NEVER, nullable=True),
                "epoch_ms(try_cast(log.bought AS timestamptz))"),
        Derived(Column("age", "double", "age in years", Known.BEFORE, True, Role.NUMERIC, static=True), "log.age"),
    ),
    outcome_days=2,
    refusals=(Refusal("sent is no time", "try_cast(log.sent AS timestamptz) IS NULL"),),
)  # fmt: skip

SPEC = FeatureSpec(
    "shop", "2024-03-31", "2024-03-31", ("mail", "push", "sms"), ("open", "order"), (1.0, 5.0),
    RewardScale(0.5, -0.25, 6.0), (Feature("age", "numeric", True, True, mean=0.0, std=1.0),),
)  # fmt: skip


def sent(customer: str, day: str, hour: int, *, medium: str = "mail", price: float = 0.1, opened: int = 1,
         bought: str = "") -> str:  # fmt: skip
    """A row of the log: a newsletter of that hour, UTC."""
    return f"{customer};{day}T{hour:02}:30:00Z;{medium};{price};{opened};{bought};41"


def write_file(folder: Path, day: str, rows: list[str]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"sent-{day}.txt").write_text("\n".join([header(SHOP.log), *rows]) + "\n")


def sent_to(customers: int) -> list[str]:
    """Three days in Berlin, the second of 23 hours; the more a newsletter costs, the more often it is opened."""
    draw = random.Random(7)
    rows = []
    for customer in range(customers):
        age = draw.choice(["", draw.randint(18, 80)])
        for _ in range(draw.randint(1, 9)):
            sent = datetime(2024, 3, 29, 23, tzinfo=UTC) + timedelta(seconds=draw.randrange(71 * 3600))
            medium, price = draw.choice([("Mail", 0.1), ("sms", 0.5), ("Push", 0.0)])
            opened = int(draw.random() < 0.2 + price)
            ordered = opened and draw.random() < 0.4
            bought = (sent + timedelta(hours=draw.randint(1, 40))).isoformat() if ordered else ""
            rows.append(f"c{customer};{sent.isoformat()};{medium};{price};{opened};{bought};{age}")
    return rows
