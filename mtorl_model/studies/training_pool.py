"""The steps of the training and validation users, from which a study cuts its windows."""

from functools import cache

from lakehouse.feature_specs import latest_spec
from lakehouse.lake import Lake
from mtorl_model.data.encoding import Encoder
from mtorl_model.data.windows.step_pool import StepPool
from mtorl_model.methods.mtorl.reward_forms import REWARD_FORMS
from schemas.dataset import get_dataset
from schemas.splits import TRAIN, VALIDATION


@cache
def training_pool(lake: Lake, dataset: str, reward_form: str) -> tuple[Encoder, StepPool]:
    """Encoded by the latest feature spec; read once per process. Raises UserError if the lake has no sequences."""
    contract = get_dataset(dataset)
    spec, _ = latest_spec(lake, dataset)
    encoder = Encoder(spec, contract, REWARD_FORMS[reward_form].inputs)
    return encoder, StepPool(lake, contract, encoder, splits=(TRAIN, VALIDATION))
