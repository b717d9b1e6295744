"""Versions of registered models: their facts, and the decisions about them."""

from dataclasses import dataclass

from schemas.basis import IMITATION, BasisDecision

DEFAULT_METHOD = "mtorl"  # the method of the daily and nightly runs
UNDECIDED = BasisDecision(IMITATION, "no basis was decided for this version")


@dataclass(frozen=True, slots=True)
class Version:
    """A registered model.

    day: the last day whose labels it was trained on. identity: a digest of everything its weights depend on. parent:
    the version it was fine-tuned from, "" after a full training. The rest is decided after the registration
    (lakehouse/models/decisions.py).
    reign: its number among all champions so far (1 is the first), 0 if it never was champion. decision: of the
    promotion gate, "" before it. compared_with: the champion that the gate compared it with. withdrawn: whether it was
    the champion when a rollback returned to an earlier version. basis: of its recommendations. experiment_id and
    curves: of its MLflow run; curves is JSON, and only a full training has them. expired: whether its files were
    deleted.
    """

    name: str  # e.g. mtorl_kuairand/3
    number: int
    run_id: str
    day: str
    identity: str
    parent: str = ""
    reign: int = 0
    decision: str = ""
    compared_with: str = ""
    withdrawn: bool = False
    basis: BasisDecision = UNDECIDED
    is_champion: bool = False
    experiment_id: str = ""
    curves: str = ""
    expired: bool = False

    @property
    def model(self) -> str:
        """The name of the registered model."""
        return self.name.rpartition("/")[0]


def model_name(dataset: str, method: str = DEFAULT_METHOD) -> str:
    """The name of the registered model of a method on a dataset."""
    return f"{method}_{dataset}"
