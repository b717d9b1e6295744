"""A trained model as a folder of tensors and JSON: nothing in it can run code.

weights.pt (tensors by number of the member and name), config.json (the members' config, input sizes and number),
feature_spec.json, initial_policy.json.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from mtorl_model.data.batch import InputSizes
from mtorl_model.data.initial_policy import InitialPolicy
from mtorl_model.methods.mtorl.config import ModelConfig
from mtorl_model.methods.mtorl.model import MTORL
from mtorl_model.training.checkpoint import load_tensors, save_tensors
from schemas.errors import UserError
from schemas.tables.feature_spec import MODEL_SPEC_FILE, FeatureSpec

WEIGHTS, CONFIG, SPEC, POLICY = "weights.pt", "config.json", MODEL_SPEC_FILE, "initial_policy.json"


@dataclass(frozen=True, slots=True)
class Artifact:
    """All that scoring needs: the models and what their inputs are made by.

    models: one, or several that differ in their seed alone and whose answers are averaged (prediction.predict).
    """

    models: tuple[MTORL, ...]
    spec: FeatureSpec
    initial_policy: InitialPolicy

    @property
    def config(self) -> ModelConfig:
        return self.models[0].config


def save_artifact(folder: Path, artifact: Artifact) -> None:
    """Write the folder, which must be private to the caller: no reader sees it before it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        f"{number}.{name}": weight.detach().cpu()
        for number, model in enumerate(artifact.models)
        for name, weight in model.state_dict().items()
    }
    save_tensors(folder / WEIGHTS, weights)
    config = {
        "model": json.loads(artifact.config.to_json()),
        "sizes": asdict(artifact.models[0].sizes),
        "members": len(artifact.models),
    }
    (folder / CONFIG).write_text(json.dumps(config, sort_keys=True))
    (folder / SPEC).write_text(artifact.spec.to_json())
    (folder / POLICY).write_text(artifact.initial_policy.to_json())


def load_artifact(folder: Path) -> Artifact:
    """The models of a folder, on the CPU.

    Raises UserError where a file is missing, broken, or holds code instead of tensors.
    """
    missing = [name for name in (WEIGHTS, CONFIG, SPEC, POLICY) if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{folder} is no model folder: it lacks {', '.join(missing)}; train again (make run)")
    config = json.loads((folder / CONFIG).read_text())
    sizes = InputSizes(**{**config["sizes"], "vocabulary": tuple(config["sizes"]["vocabulary"])})
    models = tuple(MTORL(ModelConfig.from_json(json.dumps(config["model"])), sizes) for _ in range(config["members"]))
    weights = load_tensors(folder / WEIGHTS)
    try:
        torch.nn.ModuleList(models).load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"{folder / WEIGHTS} does not fit its {CONFIG}: train again (make run)") from error
    spec = FeatureSpec.from_json((folder / SPEC).read_text())
    return Artifact(models, spec, InitialPolicy.from_json((folder / POLICY).read_text()))
