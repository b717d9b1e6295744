"""The fused score by which the exposures of a user are compared, also those of different requests.

Shapes: N exposures, I objectives, D action.
"""

import numpy as np
import numpy.typing as npt

from mtorl_model.methods.unified_rl.fusion import biases_of, log_scores, powers_of

Floats = npt.NDArray[np.float64]

_LEAST_POWER = 1e-6  # of all objectives together


def fused_scores(predictions_NI: Floats, action_ND: Floats, usual_I: Floats) -> Floats:
    """[N]: the logarithm of the fused score (equation 1), normalised.

    usual_I: the usual prediction of each objective. The paper compares normalised scores; how is not published. Here
    the usual candidate has the score 0 whatever the action, and the score is divided by the sum of the powers. The
    order within a request does not change.
    """
    usual_score_N = (powers_of(action_ND) * np.log(usual_I + biases_of(action_ND))).sum(axis=1)
    score_N = log_scores(predictions_NI[:, None, :], action_ND)[:, 0] - usual_score_N
    normalised_N: Floats = score_N / np.maximum(powers_of(action_ND).sum(axis=1), _LEAST_POWER)
    return normalised_N


def usual_predictions(predictions_NI: Floats) -> Floats:
    """[I]: the geometric mean of each objective's predictions; a prediction of 0 counts as a very small one."""
    mean_I: Floats = np.exp(np.log(np.maximum(predictions_NI, 1e-9)).mean(axis=0))
    return mean_I
