"""A day's learning: the champion is tested on the day, which is new to it, and then fine-tuned into a challenger.

The parent is the champion as of before the day, so a second run of the day does not train on top of the first: the same
parent, day, windows, configs and code give the version that is registered already. If the champion was trained on later
days, a backfilled day is only tested, with the champion from before that day; training would give a model older than
the present champion. The day's windows are still used in the replay of later days and in the next full training.
"""

import json

from lakehouse.code_version import code_version
from lakehouse.models.versions import Version
from lakehouse.storage.scratch import work_folder
from mtorl_model.champion.day_samples import Sample, draw_sample
from mtorl_model.champion.explored_requests import publish_explored
from mtorl_model.champion.mlflow_store import MODEL
from mtorl_model.champion.prequential import publish_figures, publish_without_figures, summary
from mtorl_model.champion.pyfunc import describe_for_mlflow
from mtorl_model.champion.registry import Registry
from mtorl_model.data.delayed_feedback import FeedbackConfig
from mtorl_model.data.device import choose_device
from mtorl_model.evaluation.label_sources import source_of
from mtorl_model.methods.method import FUSION, Method
from mtorl_model.methods.model_folder import save_model
from mtorl_model.training.candidate_sample import CandidateSample
from mtorl_model.training.config import FineTuneConfig
from schemas.errors import Busy


def learn_day(registry: Registry, day: str, config: FineTuneConfig, feedback: FeedbackConfig) -> list[str]:
    """Publish the day's prequential figures and register its challenger; returns lines for the terminal.

    A method without fine-tuning has no challenger. Raises UserError without a champion, or without tables of the day
    that it can read.
    """
    lake, dataset = registry.lake, registry.dataset
    champion, parent = registry.champion(), registry.champion_before(day)
    model = registry.load(parent or champion)
    can_read = source_of(model).can_read(lake, dataset, model, day)  # also raises UserError if the day is missing
    # A champion from before the last full training may have another feature spec, so it cannot read these windows.
    if parent is None or (parent.name != champion.name and not can_read):
        publish_without_figures(registry, day)
        return [f"{champion.name} has been trained through {champion.day}, and no champion from before {day} can read "
                "its windows: neither tested nor trained"]  # fmt: skip

    sample = draw_sample(lake, dataset, model, day, config, feedback)
    tested = publish_figures(registry, day, parent, model, sample)
    note = "" if tested else " (fresh: not tested again)"
    lines = [f"{parent.name}, trained through {parent.day}, on {day}{note}:", *summary(registry, day)]
    if not model.fine_tunes:
        return [*lines, f"{champion.name} is not fine-tuned: the method {model.name} learns only in a full training"]
    if champion.day > day:
        return [*lines, f"{champion.name} has been trained through {champion.day}: not trained on an older day"]
    if not sample.has_labels:
        return [*lines, f"no training user has a label on {day}: not trained"]
    if isinstance(sample, CandidateSample) and FUSION in model.predicts:
        rows = publish_explored(registry, day, parent, model, sample).rows
        lines.append(f"{rows:,} rankings explored around {parent.name}")
    return [*lines, _challenger(registry, day, parent, model, sample, config, feedback)]


def _challenger(
    registry: Registry, day: str, parent: Version, model: Method, sample: Sample,
    config: FineTuneConfig, feedback: FeedbackConfig,
) -> str:  # fmt: skip
    """Fine-tune, register and set the alias; returns a line about the challenger."""
    params = {
        **model.config.settings(), **json.loads(config.to_json()), **json.loads(feedback.to_json()),
        "device": choose_device(config.device).type, "day": day, "parent": parent.name,
        "spec": model.spec.version, "sample": sample.inputs, "labels": sample.cutoff.key,
        "code": code_version("mtorl_model"),
    }  # fmt: skip
    identity = json.dumps(params, sort_keys=True)
    version = registry.find_version(identity)
    curves = model.fine_tune(sample, config) if version is None else {}
    champion = registry.champion_before(day)
    if champion is None or champion.name != parent.name:
        raise Busy(f"{parent.name} is no longer the champion before {day}: run the day again")
    if version is None:
        version = registry.find_version(identity)  # another run of the day may have been faster
    if version is None:
        with work_folder() as staging:
            folder = staging / MODEL
            save_model(folder, model)
            describe_for_mlflow(folder, model, registry.dataset)
            # MLflow limits the length of a parameter.
            short = {**params, "sample": len(sample.inputs)}
            version = registry.register(folder, short, [curves], identity=identity, day=day, parent=parent.name)
    registry.write_lineage(version, model.spec.version, sample.inputs)
    registry.set_challenger(version)
    return f"{version.name} is the challenger of {day}: {parent.name} after {sample.summary(config)}"
