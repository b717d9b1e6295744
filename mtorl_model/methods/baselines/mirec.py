"""MIREC (mirror descent for exposure-constrained recommendation): channels by gain, within their shares of exposure.

    c* = argmax_c (p_uc - nu_c)
    nu_c <- [nu_c - h (rho_c - 1{c* = c})]_+        h ~ T^-1/2

p_uc is the probability of the first gain of user u in channel c, here by DIN (lower layer). nu_c is the price of a
channel's exposures: it rises whenever the channel exceeds its share rho_c (dual mirror descent with the Euclidean
distance, upper layer). The shares are those of the log.

Departures: only the abstract of the paper could be read, so the upper layer is our reading of it; one pass over the
training labels in their order. The policy is a softmax of p - nu, whose most probable channel is c*, so that it is a
distribution. It does not imitate the log.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mtorl_model.data.batch import InputSizes
from mtorl_model.data.windows.store import WindowStore
from mtorl_model.methods import register
from mtorl_model.methods.baselines.din import DINConfig, DINNetwork
from mtorl_model.methods.baselines.shared.candidate_channels import CandidateLogits, CandidateMethod
from mtorl_model.methods.baselines.shared.loss_sum import LossSum
from mtorl_model.methods.method import Floats, Prediction

_WINDOWS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class MIRECConfig(DINConfig):
    sharpness: float = 20.0  # of the softmax of p - nu
    step: float = 1.0  # h, times the square root of the number of labels T
    most_labels: int = 100_000  # upper limit of labels for the prices


@register
class MIREC(CandidateMethod):
    """DIN below, prices of the channels above."""

    name = "mirec"
    Config = MIRECConfig

    def new_network(self, sizes: InputSizes) -> DINNetwork:
        return DINNetwork(self.config, sizes)

    def objective(self) -> LossSum:
        """The gains alone."""
        return LossSum(*self.gain_parts())

    def policy(self, logits: CandidateLogits, values_BLAG: Floats) -> Floats:
        price_A = self.chosen.get("price_A", np.zeros(len(self.spec.channels)))
        score_BLA = self.config.sharpness * (values_BLAG[..., 0] - price_A)
        policy_BLA: Floats = np.exp(score_BLA - score_BLA.max(axis=-1, keepdims=True))
        policy_BLA /= policy_BLA.sum(axis=-1, keepdims=True)
        return policy_BLA

    def choose(self, train: WindowStore) -> dict[str, Floats]:
        self.chosen = {}
        share_A = np.array(self.initial_policy.channel_shares)
        price_A = channel_prices(self._first_gains(train), share_A, self.config.step)
        return super().choose(train) | {"price_A": price_A}

    def _first_gains(self, train: WindowStore) -> Floats:
        """[T, A]: p_uc of the labels, in the order of the windows."""
        parts: list[Floats] = []
        for batch in train.in_order(_WINDOWS_AT_ONCE):
            prediction: Prediction = self.predict(batch)
            assert prediction.values_XAG is not None
            parts.append(prediction.values_XAG[batch.label_BL.numpy()][..., 0])
            if sum(map(len, parts)) >= self.config.most_labels:
                break
        return np.concatenate(parts)[: self.config.most_labels]


def channel_prices(p_TA: Floats, share_A: npt.NDArray[np.floating], step: float) -> Floats:
    """[A]: nu after one pass over T labels; 0 at the start, never below 0."""
    price_A, height = np.zeros(len(share_A)), step / np.sqrt(max(len(p_TA), 1))
    for p_A in p_TA:
        best = int((p_A - price_A).argmax())
        price_A -= height * share_A
        price_A[best] += height
        np.maximum(price_A, 0.0, out=price_A)
    return price_A
