"""Ask a trained model about windows: probabilities as float64 arrays.

Shapes as in batch.py: B windows, L steps, A actions (channels), G gains.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mtorl_model.data.batch import Batch
from mtorl_model.methods.mtorl.artifact import Artifact
from mtorl_model.methods.mtorl.model import MTORL, Output

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
    return _averaged(artifact, [(model, model(batch)) for model in ready(artifact)])


@torch.inference_mode()
def predict_last(artifact: Artifact, batch: Batch) -> Predictions:
    """As `predict`, but the policy of the last step alone (L = 1), and the gains of all; the last step must be real."""
    batch = batch.to(device())
    return _averaged(artifact, [(model, model.last_step(batch)) for model in ready(artifact)])


def ready(artifact: Artifact) -> tuple[MTORL, ...]:
    """The models on their device, dropout off."""
    for model in artifact.models:
        # Both walk all parts of the model: too much for every block of windows.
        if model.training or next(model.parameters()).device.type != device():
            model.to(device()).eval()
    return artifact.models


def _averaged(artifact: Artifact, answers: Sequence[tuple[MTORL, Output]]) -> Predictions:
    policy_BLA: Floats = np.mean([_array(model.policy(output)) for model, output in answers], axis=0)
    policy_BLA /= adjustment(artifact)
    gains_BLG = np.mean([_array(model.predicted_gains(output)) for model, output in answers], axis=0)
    # float32 sums to 1 within 1e-7 only, and its sums of probabilities can pass 1 by as much.
    return Predictions(policy_BLA / policy_BLA.sum(axis=-1, keepdims=True), np.minimum(gains_BLG, 1.0))


def _array(probabilities: Tensor) -> Floats:
    array: Floats = probabilities.double().cpu().numpy()
    return array


def adjustment(artifact: Artifact) -> Floats:
    """[A]: what the policy is divided by: the channels' shares in training, to the power of prior_adjustment."""
    divide_by_A: Floats = np.array(artifact.initial_policy.channel_shares) ** artifact.config.prior_adjustment
    return divide_by_A


def unadjusted(artifact: Artifact, policy_XA: Floats) -> Floats:
    """The policy before its adjustment for the channels' shares: what the model takes for the chances."""
    chance_XA = policy_XA * adjustment(artifact)
    unadjusted_XA: Floats = chance_XA / chance_XA.sum(axis=-1, keepdims=True)
    return unadjusted_XA
