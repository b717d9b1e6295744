"""A trained model as a folder of tensors and JSON: nothing in it can run code.

weights.pt (tensors by name), config.json (the model's config and input sizes), feature_spec.json,
initial_policy.json.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from mtorl_model.batch import InputSizes
from mtorl_model.checkpoint import load_tensors, save_tensors
from mtorl_model.config import ModelConfig
from mtorl_model.initial_policy import InitialPolicy
from mtorl_model.model import MTORL
from schemas.errors import UserError
from schemas.tables.feature_spec import FeatureSpec

WEIGHTS, CONFIG, SPEC, POLICY = "weights.pt", "config.json", "feature_spec.json", "initial_policy.json"


@dataclass(frozen=True, slots=True)
class Artifact:
    """All that scoring needs: the model (on the CPU, in evaluation mode) and what its inputs are made by."""

    model: MTORL
    spec: FeatureSpec
    initial_policy: InitialPolicy

    @property
    def config(self) -> ModelConfig:
        return self.model.config


def save_artifact(folder: Path, model: MTORL, spec: FeatureSpec, initial_policy: InitialPolicy) -> None:
    """Write the folder, which must be private to the caller: no reader sees it before it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: weight.detach().cpu() for name, weight in model.state_dict().items()}
    save_tensors(folder / WEIGHTS, weights)
    config = {"model": json.loads(model.config.to_json()), "sizes": asdict(model.sizes)}
    (folder / CONFIG).write_text(json.dumps(config, sort_keys=True))
    (folder / SPEC).write_text(spec.to_json())
    (folder / POLICY).write_text(initial_policy.to_json())


def load_artifact(folder: Path) -> Artifact:
    """The model of a folder. Raises UserError where a file is missing, broken, or holds code instead of tensors."""
    missing = [name for name in (WEIGHTS, CONFIG, SPEC, POLICY) if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{folder} is no model folder: it lacks {', '.join(missing)}; train again (make run)")
    config = json.loads((folder / CONFIG).read_text())
    sizes = InputSizes(**{**config["sizes"], "vocabulary": tuple(config["sizes"]["vocabulary"])})
    model = MTORL(ModelConfig.from_json(json.dumps(config["model"])), sizes)
    weights = load_tensors(folder / WEIGHTS)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"{folder / WEIGHTS} does not fit its {CONFIG}: train again (make run)") from error
    model.eval()
    spec = FeatureSpec.from_json((folder / SPEC).read_text())
    return Artifact(model, spec, InitialPolicy.from_json((folder / POLICY).read_text()))
