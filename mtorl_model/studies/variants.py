"""What the studies compare: the paper's ablations and curves, and each of our departures from the paper alone.

Every variant but where it says so is one model of preset `small`, seed 0: the reference.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mtorl_model.methods.mtorl.config import paper_mu, preset
from mtorl_model.studies.cross_validation import Setting

REFERENCE = "reference"


@dataclass(frozen=True, slots=True)
class Variant:
    """name: what a reader calls it. at: where it stands on a curve's axis, None off a curve.

    block: which block of seeds it is trained with. In block 0 variants share the reference's seeds; another block has
    none of them, so that a repetition of the reference says what another training alone changes.
    """

    name: str
    setting: Setting
    at: float | None = None
    block: int = 0

    @property
    def is_repetition(self) -> bool:
        return self.block > 0


@dataclass(frozen=True, slots=True)
class Study:
    """What it asks, and its variants for a dataset; the one named REFERENCE is what the others are held against.

    repetitions() stand beside them in every study.
    """

    question: str
    variants: Callable[[str], list[Variant]]
    axis: str | None = None  # of a curve


def reference(dataset: str) -> Setting:
    return Setting.of(preset("small", dataset).changed({"members": 1}))


def _with(setting: Setting, part: str, **changes: Any) -> Setting:
    return replace(setting, **{part: replace(getattr(setting, part), **changes)})


def repetitions(dataset: str) -> list[Variant]:
    """The reference with other seeds. Every study has them: a difference that they make as well is no finding."""
    return [Variant(f"reference, repeated with other seeds ({k})", reference(dataset), block=k) for k in (1, 2)]


def _ablation(dataset: str) -> list[Variant]:
    whole = reference(dataset)
    return [
        Variant(REFERENCE, whole),
        Variant("without causal state encoder", _with(whole, "model", use_state_encoder=False)),
        Variant("without causal attention", _with(whole, "model", use_attention=False)),
        Variant("without Add&Norm", _with(whole, "model", use_addnorm=False)),
        Variant("without DPO", _with(whole, "loss", dpo_weight=0.0)),
    ]


def _departures(dataset: str) -> list[Variant]:
    ours = reference(dataset)
    return [
        Variant(REFERENCE, ours),
        Variant("three models averaged, as the preset does", _with(ours, "train", members=3)),
        Variant("policies not adjusted for the channels' shares", _with(ours, "model", prior_adjustment=0.0)),
        Variant("no category dropout", _with(ours, "model", category_dropout=0.0)),
        Variant("constant learning rate", _with(ours, "train", schedule="constant")),
        Variant("gradient not clipped", _with(ours, "train", gradient_clip=0.0)),
        Variant("the paper's mu", _with(ours, "loss", mu=paper_mu(dataset))),
        Variant(
            "without running means, switch counts and the last cost",
            replace(ours, without=("mean_", "switches_", "last_cost")),
        ),
        Variant(
            "without any history input: those, and counts, rates and shares of the whole past",
            replace(ours, without=("mean_", "switches_", "last_cost", "log_", "rate_", "share_")),
        ),
    ]


def _curve(part: str, field: str, values: tuple[float, ...]) -> Callable[[str], list[Variant]]:
    def variants(dataset: str) -> list[Variant]:
        base = reference(dataset)
        usual = getattr(getattr(base, part), field)
        return [
            Variant(REFERENCE if v == usual else f"{field} {v:g}", _with(base, part, **{field: type(usual)(v)}), v)
            for v in sorted({*values, usual})
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
