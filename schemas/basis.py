"""What the channels that a model recommends are based on."""

import json
from dataclasses import asdict, dataclass, field

VALUE = "value"  # the channel with the highest predicted gain for the user
IMITATION = "imitation"  # the most probable channel of the policy that imitates the log (equation 10)
CONSTANT = "constant"  # the same channel for everyone: the one with the highest gain
BASES = (VALUE, IMITATION, CONSTANT)
BY_GATE = "gate"  # the basis that was decided for the champion on validation users


@dataclass(frozen=True, slots=True)
class BasisDecision:
    """The basis, and why (mtorl_model/evaluation/basis.py).

    minus_constant: for each basis, its value minus that of the best constant policy in gains per exposure, with its
    95 % interval over users: value, low, high. Empty if the log does not identify the value of a policy.
    """

    basis: str
    reason: str
    minus_constant: dict[str, dict[str, float | None]] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "BasisDecision":
        return cls(**json.loads(text))
