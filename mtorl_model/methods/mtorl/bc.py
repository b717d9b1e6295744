"""BC, behaviour cloning: MTORL's network with mu = lambda = 0, so that the cross-entropy of the channel remains.

It predicts the channel alone. The reward decoder is not trained, not stored, and does not decide when to stop.
"""

from collections.abc import Mapping

from torch import Tensor

from mtorl_model.data.batch import Batch
from mtorl_model.data.initial_policy import InitialPolicy
from mtorl_model.methods import register
from mtorl_model.methods.method import POLICY, Prediction, State
from mtorl_model.methods.mtorl.config import MTORLConfig, presets
from mtorl_model.methods.mtorl.losses import MTORLLoss, policy_loss
from mtorl_model.methods.mtorl.method import MTORL
from mtorl_model.methods.mtorl.network import Output
from schemas.tables.feature_spec import FeatureSpec

_FIXED = {"mu": 0.0, "dpo_weight": 0.0, "trees": False}


class PolicyLoss(MTORLLoss):
    """MTORL's loss; validation counts the policy alone."""

    validation_names = ("policy",)

    def validation_losses(self, output: Output, batch: Batch) -> Tensor:
        return policy_loss(output, batch).unsqueeze(0)


@register
class BC(MTORL):
    """Behaviour cloning; mu, lambda and trees are fixed, whatever the config."""

    name = "bc"

    def __init__(self, config: MTORLConfig, spec: FeatureSpec, initial_policy: InitialPolicy) -> None:
        super().__init__(config.changed(_FIXED), spec, initial_policy)
        self.predicts = frozenset({POLICY})

    @classmethod
    def presets(cls, dataset: str) -> Mapping[str, MTORLConfig]:  # type: ignore[override]
        """MTORL's with one network and an unadjusted policy, as its other baselines."""
        plain = {**_FIXED, "members": 1, "prior_adjustment": 0.0}
        return {name: config.changed(plain) for name, config in presets(dataset).items()}

    def _objective(self) -> PolicyLoss:
        return PolicyLoss(self.config.loss, self.config.model.form, self.spec.gains)

    def predict(self, batch: Batch) -> Prediction:
        return Prediction(super().predict(batch).policy_XA)

    def predict_last(self, batch: Batch) -> Prediction:
        return Prediction(super().predict_last(batch).policy_XA)

    def state(self) -> State:
        return {name: array for name, array in super().state().items() if ".reward." not in name}

    def restore(self, state: State) -> None:
        self.initialise()
        super().restore({name: array for name, array in super().state().items() if ".reward." in name} | dict(state))
