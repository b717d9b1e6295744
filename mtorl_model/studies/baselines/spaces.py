"""The settings that are tuned for each method, and where the tuning starts."""

from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from typing import Any

from mtorl_model.methods import METHODS
from mtorl_model.methods.method import MethodConfig

REFERENCE = "mtorl"
COMPARED = (
    REFERENCE, "boosting", "wide_and_deep", "din", "star", "mirec", "rbcq", "ag", "bc", "cql", "iql", "dt", "odt",
)  # fmt: skip
# Their libraries are not in requirements.txt, so a study trains them only if its arguments name them.
RIVALS = ("lightgbm", "tabm")
CHOICES = (*COMPARED, *RIVALS)

_NETWORK: Mapping[str, tuple[Any, ...]] = {
    "learning_rate": (3e-4, 1e-3, 3e-3),
    "hidden": (64, 128, 256),
    "dropout": (0.0, 0.1, 0.3),
    "weight_decay": (0.0, 1e-5, 1e-4),
}
_TREES: Mapping[str, tuple[Any, ...]] = {
    "channel_rate": (0.05, 0.1, 0.2),
    "gain_rate": (0.03, 0.07, 0.15),
    "max_leaf_nodes": (8, 16, 31),
    "min_samples_leaf": (20, 40, 100),
    "l2_regularization": (0.0, 5.0, 20.0),
}
_DISCOUNT = (0.0, 0.5, 0.9)
_METHOD_SPACES: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "mtorl": {"mu": (0.08, 0.3, 1.0), "dpo_weight": (0.0, 0.6, 1.4)},
    "boosting": _TREES,
    "lightgbm": {**_TREES, "category_values": (8, 16, 32)},
    "tabm": {"submodels": (8, 16, 32)},
    "din": {"behaviour": (16, 32)},
    "mirec": {"behaviour": (16, 32), "step": (0.3, 1.0, 3.0)},
    "rbcq": {"discount": _DISCOUNT, "threshold": (0.1, 0.3, 0.5)},
    "ag": {"discount": _DISCOUNT, "threshold": (0.1, 0.3, 0.5)},
    "cql": {"discount": _DISCOUNT, "alpha": (0.3, 1.0, 3.0)},
    "iql": {"discount": _DISCOUNT, "expectile": (0.5, 0.7, 0.9), "temperature": (1.0, 3.0, 10.0)},
    "dt": {"return_quantile": (0.5, 0.9, 1.0)},
    "odt": {"return_quantile": (0.5, 0.9, 1.0), "entropy_share": (0.1, 0.3, 0.6)},
}
# One network without trees and without adjustment for the channels' shares: these would improve any method.
_PLAIN = {"members": 1, "trees": False, "prior_adjustment": 0.0}


def base_config(name: str, dataset: str, max_epochs: int | None) -> MethodConfig:
    """The preset `small` of a method, without parts that it does not share with the other methods."""
    config = METHODS[name].presets(dataset)["small"]
    plain: dict[str, Any] = _PLAIN if max_epochs is None else {**_PLAIN, "max_epochs": max_epochs}
    # "trees" is a setting of MTORL, and in boosting the name of its only part.
    return config.changed({key: value for key, value in plain.items() if key in config.settings()})


def add_compared_methods(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--methods", nargs="+", default=list(COMPARED), choices=CHOICES, help=f"default: all but {', '.join(RIVALS)}"
    )


def methods_of_command(methods: Sequence[str]) -> str:
    """The methods as an argument of `make study`, with a space before it; empty for the default."""
    return f" METHODS='{' '.join(methods)}'" if set(methods) != set(COMPARED) else ""


def space_of(name: str, config: MethodConfig) -> dict[str, tuple[Any, ...]]:
    """The values of each setting that is tuned, which is one of the config."""
    settings = config.settings()
    return {key: values for key, values in {**_NETWORK, **_METHOD_SPACES.get(name, {})}.items() if key in settings}


def start_of(config: MethodConfig, space: Mapping[str, tuple[Any, ...]]) -> dict[str, Any]:
    """The preset's own values; where one is not in the space, the middle value of the space."""
    settings = config.settings()
    return {
        key: settings[key] if settings[key] in values else values[len(values) // 2] for key, values in space.items()
    }
