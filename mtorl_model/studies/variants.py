"""The variants that the studies compare: the paper's ablations and curves, and each of our departures from the paper.

A variant is one model of preset `small` with seed 0, except for the change in its name. The reference has no change.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mtorl_model.methods.mtorl.config import paper_mu, preset
from mtorl_model.studies.setting import Setting

REFERENCE = "reference"
EMBEDDINGS = "embeddings"  # a study of another model (embeddings.py)
EMBEDDINGS_QUESTION = "Do user embeddings help another model that predicts clicks? (section 4.5 of the paper)"


@dataclass(frozen=True, slots=True)
class Variant:
    """One row of a study.

    name: for readers. axis_value: its place on the axis of a curve, None in other studies.
    seed_block: the block of seeds that trains it. In block 0 a variant has the same seeds as the reference. The other
        blocks have different seeds: a repetition of the reference shows the effect of another training alone.
    """

    name: str
    setting: Setting
    axis_value: float | None = None
    seed_block: int = 0

    @property
    def is_repetition(self) -> bool:
        return self.seed_block > 0


@dataclass(frozen=True, slots=True)
class Study:
    """A question, and the variants for a dataset that answer it. One is named REFERENCE: the others are compared to it.

    Every study also has the repetitions().
    """

    question: str
    variants: Callable[[str], list[Variant]]
    axis: str | None = None  # the name of a curve's axis


def reference(dataset: str) -> Setting:
    return Setting.from_config(preset("small", dataset).changed({"members": 1}))


def _change(setting: Setting, part: str, **changes: Any) -> Setting:
    """part: model, loss or train."""
    return replace(setting, **{part: replace(getattr(setting, part), **changes)})


def repetitions(dataset: str) -> list[Variant]:
    """The reference with other seeds. A difference that these repetitions reach too is not a finding."""
    return [Variant(f"reference, repeated with other seeds ({k})", reference(dataset), seed_block=k) for k in (1, 2)]


def _ablation(dataset: str) -> list[Variant]:
    full = reference(dataset)
    return [
        Variant(REFERENCE, full),
        Variant("without causal state encoder", _change(full, "model", use_state_encoder=False)),
        Variant("without causal attention", _change(full, "model", use_attention=False)),
        Variant("without Add&Norm", _change(full, "model", use_addnorm=False)),
        Variant("without DPO", _change(full, "loss", dpo_weight=0.0)),
    ]


def _departures(dataset: str) -> list[Variant]:
    base = reference(dataset)
    return [
        Variant(REFERENCE, base),
        Variant("three models averaged, as the preset does", _change(base, "train", members=3)),
        Variant("policies not adjusted for the channels' shares", _change(base, "model", prior_adjustment=0.0)),
        Variant("no category dropout", _change(base, "model", category_dropout=0.0)),
        Variant("constant learning rate", _change(base, "train", schedule="constant")),
        Variant("gradient not clipped", _change(base, "train", gradient_clip=0.0)),
        Variant("the paper's mu", _change(base, "loss", mu=paper_mu(dataset))),
        Variant(
            "without running means, switch counts and the last cost",
            replace(base, hidden_inputs=("mean_", "switches_", "last_cost")),
        ),
        Variant(
            "without any history input: those, and counts, rates and shares of the whole past",
            replace(base, hidden_inputs=("mean_", "switches_", "last_cost", "log_", "rate_", "share_")),
        ),
    ]


def _curve(part: str, field: str, values: tuple[float, ...]) -> Callable[[str], list[Variant]]:
    """Variants that differ from the reference in one field, whose value is their place on the axis."""

    def variants(dataset: str) -> list[Variant]:
        base = reference(dataset)
        default = getattr(getattr(base, part), field)
        return [
            Variant(
                REFERENCE if value == default else f"{field} {value:g}",
                _change(base, part, **{field: type(default)(value)}),
                value,
            )
            for value in sorted({*values, default})
        ]

    return variants


STUDIES: Mapping[str, Study] = {
    "ablation": Study("What does each part of the network do? (figure 2 of the paper)", _ablation),
    "departures": Study("What does each departure from the paper do?", _departures),
    "steps": Study("How long should a window be? (figure 3, n)", _curve("model", "steps", (5, 10, 20, 40)), "n, steps"),
    "lambda": Study(
        "How much should preferences weigh? (figure 3, lambda)",
        _curve("loss", "dpo_weight", (0.0, 0.6, 1.4, 2.4)),
        "lambda, weight of the DPO loss",
    ),
    "mu": Study(
        "How much should the reward weigh? (figure 3, mu)",
        _curve("loss", "mu", (0.0, 0.04, 0.08, 0.2, 1.0, 3.0)),
        "mu, weight of the reward loss",
    ),
}
