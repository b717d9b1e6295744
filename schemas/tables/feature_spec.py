"""One row per candidate feature: whether it is kept, why it is dropped, and how it is encoded.

The spec is fitted on training users only, stored with the model, and applied unchanged at scoring. `FeatureSpec` is
the whole spec as one value, in the file LAKE/<dataset>/feature_specs/<version>.json; the table has the same features
for people and audits.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from schemas.contract import Column, Table
from schemas.expectations import holds, one_of, unique
from schemas.tables import FEATURE_SPEC

MODEL_SPEC_FILE = "feature_spec.json"  # in a model's folder, and exported with the model

OUT_OF_VOCABULARY = 0  # the code of missing and unseen categories; known ones count from 1

_NUMBERS = (
    ("missing_share", "share of missing values among training users"),
    ("variance", "variance of the encoded value; null for categories"),
    ("correlation", "largest absolute correlation with a kept feature"),
    ("mutual_information_action", "mutual information with the channel, nats"),
    ("mutual_information_reward", "mutual information with the first gain, nats"),
    ("unit", "typical size of a heavy-tailed number, for which log1p(value / unit) is scaled; null for other columns"),
    ("mean", "mean of the transformed value, for scaling"),
    ("std", "standard deviation of the transformed value, for scaling"),
)

FEATURE_SPEC_TABLE = Table(
    name=FEATURE_SPEC,
    doc=__doc__,
    columns=(
        Column("name", "string", "the step input or profile column"),
        Column("role", "string", "categorical or numeric"),
        Column("static", "boolean", "true for a user's profile"),
        Column("kept", "boolean", "whether the model sees it"),
        Column("reason", "string", "why it was dropped; empty if it is kept"),
        *(Column(name, "double", doc, nullable=True) for name, doc in _NUMBERS),
        Column("vocabulary", "array<string>", "known categories as text, in the order of their codes from 1"),
    ),
    key=("name",),
    expectations=(
        unique("name", rationale="a feature is decided once"),
        one_of("role", ("categorical", "numeric"), rationale="the encoder follows from it"),
        holds("explained", rationale="every dropped column has its reason"),
        holds("encodable", rationale="a kept category needs a vocabulary, a kept number a positive scale"),
    ),
    audit_duckdb_sql="""
        SELECT name, role, kept = (reason = '') AS explained,
               NOT kept OR (role = 'categorical' AND len(vocabulary) > 0) OR (role = 'numeric' AND std > 0)
                 AS encodable
        FROM partition""",
)


@dataclass(frozen=True, slots=True)
class Feature:
    """A row of the table; FEATURE_SPEC_TABLE describes its fields."""

    name: str
    role: str
    static: bool
    kept: bool
    reason: str = ""
    missing_share: float | None = None
    variance: float | None = None
    correlation: float | None = None
    mutual_information_action: float | None = None
    mutual_information_reward: float | None = None
    unit: float | None = None
    mean: float | None = None
    std: float | None = None
    vocabulary: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RewardScale:
    """r = minmax(g - s w) of equation 3: s is the penalty, low and high span g - s w over training users."""

    penalty: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """Everything that turns a raw step into the model's input, learned from training users of first_day to last_day."""

    dataset: str
    first_day: str
    last_day: str
    channels: tuple[str, ...]  # the actions, in the order of the model's outputs
    gains: tuple[str, ...]
    gain_weights: tuple[float, ...]
    reward: RewardScale
    features: tuple[Feature, ...]

    @property
    def kept_features(self) -> tuple[Feature, ...]:
        return tuple(f for f in self.features if f.kept)

    @property
    def version(self) -> str:
        """Twelve hex digits that depend on the whole content."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "FeatureSpec":
        raw: dict[str, Any] = json.loads(text)
        features = tuple(Feature(**{**f, "vocabulary": tuple(f["vocabulary"])}) for f in raw.pop("features"))
        tuples: dict[str, Any] = {k: tuple(raw.pop(k)) for k in ("channels", "gains", "gain_weights")}
        return cls(reward=RewardScale(**raw.pop("reward")), features=features, **tuples, **raw)
