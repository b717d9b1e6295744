"""A day's learning: the champion is tested on the day that it has not seen, then fine-tuned into a challenger.

The parent is the champion as it was before the day, so that a day run twice never trains on top of itself: the same
parent, day, windows, configs and code give the version that is registered already. A day that the champion is
older than, or as old as itself, is trained; where the champion has seen later days, a backfilled day is tested with
the champion of its time and trains nothing: it would only make an older model. Its windows still come into later
days by replay, and into the next full training.
"""

import json

from lakehouse.paths import Lake
from lakehouse.publishing import code_version, require_manifest, staging_folder
from mtorl_model.champion.registry import (
    Version,
    champion,
    champion_before,
    find_version,
    load_version,
    register,
    registry_lock,
    set_challenger,
    version_params,
    write_lineage,
)
from mtorl_model.data.delayed_feedback import FeedbackConfig
from mtorl_model.data.encoding import Encoder
from mtorl_model.evaluation.prequential import judge_day, leave_untested, summary
from mtorl_model.methods.mtorl.artifact import Artifact, save_artifact
from mtorl_model.methods.mtorl.config import LossConfig
from mtorl_model.training.config import FineTuneConfig
from mtorl_model.training.day_sample import DaySample, draw_day, mixed_batches, steps_of
from mtorl_model.training.loop import adapt, choose_device
from schemas.dataset import Dataset
from schemas.errors import Busy
from schemas.tables import sequences


def learn_day(lake: Lake, dataset: Dataset, day: str, config: FineTuneConfig, feedback: FeedbackConfig) -> list[str]:
    """Publish the day's prequential figures, register its challenger; lines for people about both.

    Raises UserError where there is no champion, or no sequences of the day that it can read.
    """
    now, parent = champion(lake, dataset), champion_before(lake, dataset, day)
    cut_with = require_manifest(lake, sequences.NAME, dataset.name, day).spec_version
    artifact = load_version(lake, dataset, parent) if parent else None
    # A champion of another feature spec, of before the last full training, cannot read the windows of today's.
    if parent is None or artifact is None or (parent.name != now.name and artifact.spec.version != cut_with):
        leave_untested(lake, dataset, day)
        return [f"{now.name} has been trained through {now.day}, and none of before {day} reads its windows: "
                "nothing to test, nothing to train"]  # fmt: skip

    encoder = Encoder(artifact.spec, dataset, artifact.config.reward_form)
    sample = draw_day(lake, encoder, dataset, day, config, feedback)
    tested = judge_day(lake, dataset, day, parent, artifact, sample)
    left = "" if tested else " (fresh, left alone)"
    lines = [f"{parent.name}, trained through {parent.day}, on {day}{left}:", *summary(lake, dataset, day)]
    if now.day > day:
        return [*lines, f"{now.name} has been trained through {now.day}: nothing is trained on an older day"]
    if not sample.new.label_NL.any():
        return [*lines, f"no label of a training user on {day}: nothing to train"]
    return [*lines, _challenger(lake, dataset, day, parent, artifact, sample, config, feedback)]


def _challenger(
    lake: Lake, dataset: Dataset, day: str, parent: Version, artifact: Artifact, sample: DaySample,
    config: FineTuneConfig, feedback: FeedbackConfig,
) -> str:  # fmt: skip
    """Fine-tune, register, name; a line about the challenger."""
    trained_with = version_params(lake, parent)
    loss = LossConfig(**{name: float(trained_with[name]) for name in LossConfig.__dataclass_fields__})
    params = {
        **{k: v for c in (loss, config, feedback) for k, v in json.loads(c.to_json()).items()},
        "device": choose_device(config.device).type, "day": day, "parent": parent.name,
        "spec": artifact.spec.version, "sample": sample.inputs, "labels": sample.known_by.key,
        "code": code_version("mtorl_model"),
    }  # fmt: skip
    identity = json.dumps(params, sort_keys=True)
    is_new = find_version(lake, dataset, identity) is None
    curves = adapt_members(artifact, sample, config, loss) if is_new else {}
    steps = steps_of(len(sample.new.valid_NL), config)
    with staging_folder(lake) as folder, registry_lock(lake, dataset):
        before = champion_before(lake, dataset, day)
        if before is None or before.name != parent.name:
            raise Busy(f"{parent.name} is no longer the champion before {day}: run the day again")
        found = find_version(lake, dataset, identity)  # another run of the day may have been faster
        if found is None:
            save_artifact(folder, artifact)
            # MLflow keeps a parameter only up to some thousand characters.
            short = {**params, "sample": len(sample.inputs)}
            found = register(lake, dataset, folder, short, [curves], identity=identity, day=day, parent=parent.name)
        write_lineage(lake, dataset, found, artifact.spec.version, sample.inputs)
        set_challenger(lake, dataset, found)
    return (
        f"{found.name} is the challenger of {day}: {parent.name} after {steps} more steps on "
        f"{len(sample.new.valid_NL):,} windows of the day and {len(sample.replay.valid_NL):,} of earlier days"
    )


def adapt_members(artifact: Artifact, sample: DaySample, config: FineTuneConfig, loss: LossConfig) -> dict[str, float]:
    """Fine-tune every member in place, each on batches of its own; mean losses, the second member's with a _2."""
    curves: dict[str, float] = {}
    for member, model in enumerate(artifact.models, start=1):
        losses = adapt(model, mixed_batches(sample, config, seed=member), loss, config, seed=member)
        of_member = f"_{member}" if member > 1 else ""
        curves |= {f"train_{name}{of_member}": value for name, value in losses.items()}
    return curves
