"""Ask a trained model about windows: probabilities as float64 arrays.

Shapes as in batch.py: B windows, L steps, A actions (channels), G gains.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from mtorl_model.artifact import Artifact
from mtorl_model.batch import Batch
from mtorl_model.model import MTORL

Floats = npt.NDArray[np.float64]

# Windows the model reads at once. Fixed, because a matrix product's last bits depend on its shape.
WINDOWS_AT_ONCE = 1024


class Predictions(NamedTuple):
    """What the model says of each step; at padding the numbers mean nothing."""

    policy_BLA: Floats  # probability of each channel, sums to 1 within float64 precision
    gains_BLG: Floats  # probability of each gain, 0 to 1


def device() -> str:
    """A GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@torch.inference_mode()
def predict(artifact: Artifact, batch: Batch) -> Predictions:
    """The mean of the models' policies and of their predicted gains, computed in float32 on a GPU where there is one.

    The policy is adjusted for the channels' shares in the log as ModelConfig.prior_adjustment says.
    """
    batch = batch.to(device())
    answers = [_answer(model, batch) for model in artifact.models]
    policy_BLA = np.mean([policy_BLA for policy_BLA, _ in answers], axis=0)
    policy_BLA /= adjustment(artifact)
    gains_BLG = np.mean([gains_BLG for _, gains_BLG in answers], axis=0)
    # float32 sums to 1 within 1e-7 only, and its sums of probabilities can pass 1 by as much.
    return Predictions(policy_BLA / policy_BLA.sum(axis=-1, keepdims=True), np.minimum(gains_BLG, 1.0))


def adjustment(artifact: Artifact) -> Floats:
    """[A]: what the policy is divided by: the channels' shares in training, to the power of prior_adjustment."""
    divide_by_A: Floats = np.array(artifact.initial_policy.channel_shares) ** artifact.config.prior_adjustment
    return divide_by_A


def unadjusted(artifact: Artifact, policy_XA: Floats) -> Floats:
    """The policy before its adjustment for the channels' shares: what the model takes for the chances."""
    chance_XA = policy_XA * adjustment(artifact)
    unadjusted_XA: Floats = chance_XA / chance_XA.sum(axis=-1, keepdims=True)
    return unadjusted_XA


def _answer(model: MTORL, batch: Batch) -> tuple[Floats, Floats]:
    """policy_BLA and gains_BLG of one model, dropout off."""
    model.to(device()).eval()
    output = model(batch)
    return model.policy(output).double().cpu().numpy(), model.predicted_gains(output).double().cpu().numpy()
