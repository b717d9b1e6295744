"""The channel that is recommended to each user, by its basis."""

import numpy as np
import numpy.typing as npt

from mtorl_model.methods.method import POLICY, VALUES, Method, Prediction
from schemas.basis import CONSTANT, IMITATION, VALUE


def possible_bases(model: Method) -> list[str]:
    """The bases that a model's predictions allow, CONSTANT last."""
    return [
        *([VALUE] if VALUES in model.predicts else []),
        *([IMITATION] if POLICY in model.predicts else []),
        CONSTANT,
    ]


def recommended_channel(prediction: Prediction, basis: str, best_channel: int) -> npt.NDArray[np.int64]:
    """The recommended channel of each row, [X].

    By VALUE it has the highest probability of the first gain; by IMITATION it is the most probable one of the policy
    (equation 10); by CONSTANT it is best_channel for everyone. Raises TypeError if the prediction lacks what the basis
    needs.
    """
    policy_XA, values_XAG = prediction.policy_XA, prediction.values_XAG
    if basis == VALUE and values_XAG is not None:
        return np.asarray(values_XAG[..., 0].argmax(axis=-1))
    if basis == IMITATION and policy_XA is not None:
        return np.asarray(policy_XA.argmax(axis=-1))
    known = next((array for array in prediction if array is not None), None)
    if basis == CONSTANT and known is not None:
        return np.full(known.shape[: known.ndim - (2 if known is values_XAG else 1)], best_channel)
    raise TypeError(f"the prediction has no basis {basis}")
