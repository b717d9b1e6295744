"""An action and the fusion formula it stands for (equation 1).

Shapes: X any leading axes, J candidates, I objectives; an action has 2 I numbers in [-1, 1], the powers' first.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# The paper does not publish how actions are scaled. Here the action 0 is the plain product of the predictions,
# a power is from 0 to 2, and the sum of a prediction and its bias is above 0 for every action above -1.
_SMALLEST_BIAS = 0.05


def powers_of(action_XD: Floats) -> Floats:
    """The power of each objective, [X, I], 0 to 2."""
    return 1.0 + _powers_and_biases(action_XD)[0]


def biases_of(action_XD: Floats) -> Floats:
    """The bias of each objective, [X, I], 0 to .1."""
    return _SMALLEST_BIAS * (1.0 + _powers_and_biases(action_XD)[1])


def action_of(power_XI: Floats, bias_XI: Floats) -> Floats:
    """The action with these powers and biases, [X, D]."""
    action_XD: Floats = np.concatenate([power_XI - 1.0, bias_XI / _SMALLEST_BIAS - 1.0], axis=-1)
    return action_XD


def log_scores(predictions_XJI: Floats, action_XD: Floats) -> Floats:
    """[X, J]: the logarithm of each candidate's fused score (equation 1), which ranks as the score does.

    predictions_XJI: probabilities or other positive numbers. Raises ValueError for a prediction below 0.
    """
    return fused_logs(predictions_XJI, powers_of(action_XD)[..., None, :], biases_of(action_XD)[..., None, :])


def fused_logs(prediction_XI: Floats, power_XI: Floats, bias_XI: Floats) -> Floats:
    """[X]: the logarithm of equation 1. Raises ValueError for a prediction below 0."""
    if (prediction_XI < 0).any():
        raise ValueError("a fused prediction must not be negative")
    # A prediction of 0 with the bias 0 ranks last; its power decides by how much.
    logs_XI = np.log(np.maximum(prediction_XI + bias_XI, np.finfo(np.float64).tiny))
    score_X: Floats = (power_XI * logs_XI).sum(axis=-1)
    return score_X


def _powers_and_biases(action_XD: Floats) -> tuple[Floats, Floats]:
    objectives, odd = divmod(action_XD.shape[-1], 2)
    if odd:
        raise ValueError("an action has a power and a bias for each objective")
    return action_XD[..., :objectives], action_XD[..., objectives:]
