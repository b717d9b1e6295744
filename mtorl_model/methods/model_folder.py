"""A trained model as a folder of tensors and JSON: nothing in it can run code.

weights.pt (tensors by name), config.json (the method's name, its settings and encoding), feature_spec.json,
initial_policy.json, and checksums.json with the checksum of each of them.
"""

import json
from pathlib import Path

import torch

from mtorl_model.data.initial_policy import InitialPolicy
from mtorl_model.methods import METHODS
from mtorl_model.methods.method import Method
from mtorl_model.training.checkpoint import load_tensors, save_tensors
from mtorl_model.training.checksums import require_unchanged, write_checksums
from schemas.errors import UserError
from schemas.tables.feature_spec import MODEL_SPEC_FILE, FeatureSpec

WEIGHTS, CONFIG, SPEC, POLICY = "weights.pt", "config.json", MODEL_SPEC_FILE, "initial_policy.json"
FILES = (WEIGHTS, CONFIG, SPEC, POLICY)
IF_DAMAGED = "go back to an earlier model (make rollback), or train again (make run)"


def save_model(folder: Path, model: Method) -> None:
    """Write the folder, which must be private to the caller, so that no other process reads an incomplete folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(folder / WEIGHTS, {name: torch.from_numpy(array) for name, array in model.state().items()})
    config = {"method": model.name, "config": json.loads(model.config.to_json())}
    if model.encoding:
        config["encoding"] = model.encoding  # as text: sorted keys would change the order of the inputs
    (folder / CONFIG).write_text(json.dumps(config, sort_keys=True))
    (folder / SPEC).write_text(model.spec.to_json())
    (folder / POLICY).write_text(model.initial_policy.to_json())
    write_checksums(folder, FILES)


def load_model(folder: Path) -> Method:
    """The model of a folder, on the CPU.

    Raises UserError if a file is missing, differs from its checksum or contains code instead of tensors, or if the
    folder was written by an earlier version, which did not name the method.
    """
    require_unchanged(folder, FILES, IF_DAMAGED)
    content = json.loads((folder / CONFIG).read_text())
    if "method" not in content:
        raise UserError(f"{folder / CONFIG} names no method, so an earlier version wrote it: train again (make run)")
    method = METHODS[content["method"]]
    config = method.Config.from_json(json.dumps(content["config"]))
    spec = FeatureSpec.from_json((folder / SPEC).read_text())
    model = method(config, spec, InitialPolicy.from_json((folder / POLICY).read_text()))
    if "encoding" in content:
        model.encoding = content["encoding"]
    state = {name: tensor.numpy() for name, tensor in load_tensors(folder / WEIGHTS).items()}
    try:
        model.restore(state)
    except (RuntimeError, KeyError, ValueError) as error:
        raise UserError(f"{folder / WEIGHTS} does not fit its {CONFIG}: train again (make run)") from error
    return model
