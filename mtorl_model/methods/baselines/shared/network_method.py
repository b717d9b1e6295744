"""A method whose networks the training loop fits: what remains is a network, a loss and how they predict.

Shapes as in data/batch.py.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from mtorl_model.data.batch import Batch, InputSizes
from mtorl_model.data.device import device
from mtorl_model.data.encoding import input_sizes
from mtorl_model.data.initial_policy import InitialPolicy
from mtorl_model.data.windows.store import WindowStore
from mtorl_model.methods.baselines.shared.config import NetworkConfig, presets_of
from mtorl_model.methods.baselines.shared.loss_sum import LossSum
from mtorl_model.methods.baselines.shared.target_network import is_target, reset_targets
from mtorl_model.methods.common.label_trees import state_part
from mtorl_model.methods.common.networks.members import fine_tune_members, fit_members, seeds_of
from mtorl_model.methods.method import Floats, Method, Prediction, Run, State
from mtorl_model.training.config import FineTuneConfig
from mtorl_model.training.day_sample import DaySample
from mtorl_model.training.loop import History
from schemas.tables.feature_spec import FeatureSpec

CHOSEN = "chosen"  # the beginning of the names of numbers that no step of the optimiser changes


class NetworkMethod(Method):
    """config.train.members networks, whose probabilities are averaged."""

    fine_tunes = True
    Config: ClassVar[type[NetworkConfig]] = NetworkConfig
    config: Any  # a NetworkConfig of the method

    def __init__(self, config: NetworkConfig, spec: FeatureSpec, initial_policy: InitialPolicy) -> None:
        super().__init__(config, spec, initial_policy)
        self.networks: tuple[Any, ...] = ()
        self.histories: list[History] = []  # of the last fit, one a network
        self.chosen: dict[str, Floats] = {}  # numbers that are chosen on training windows, after the fit

    @classmethod
    def presets(cls, dataset: str) -> Mapping[str, NetworkConfig]:
        return presets_of(cls.Config)

    @abstractmethod
    def new_network(self, sizes: InputSizes) -> nn.Module:
        """A network with random weights."""

    @abstractmethod
    def objective(self) -> LossSum:
        """The loss."""

    @abstractmethod
    def predict_with(self, network: Any, batch: Batch) -> Prediction:
        """One network's prediction for every step; the batch is on the network's device."""

    def choose(self, train: WindowStore) -> dict[str, Floats]:
        """The numbers of `chosen`, from windows of training users; the networks are fitted."""
        return {}

    def fit(self, train: WindowStore, valid: WindowStore, run: Run) -> Self:
        self.networks, self.histories = self.fit_networks(train, valid, run)
        self.chosen = self.choose(train)
        run.lines = [f"best of {len(h.epochs)} epochs is {h.best_epoch + 1}" for h in self.histories]
        return self

    def fit_networks(self, train: WindowStore, valid: WindowStore, run: Run) -> tuple[tuple[Any, ...], list[History]]:
        return fit_members(self._new_network, train, valid, self.objective(), self.config.train, run)

    def fine_tune(self, sample: DaySample, config: FineTuneConfig) -> dict[str, float]:
        """Each network learns from differently drawn batches; the chosen numbers stay."""
        return fine_tune_members(self.networks, sample, self.objective(), config)

    @torch.inference_mode()
    def predict(self, batch: Batch) -> Prediction:
        batch = batch.to_device(device())
        predictions = [self.predict_with(network, batch) for network in self._ready()]
        by_kind = zip(*predictions, strict=True)
        mean = Prediction(*(None if arrays[0] is None else np.mean(arrays, axis=0) for arrays in by_kind))
        assert mean.policy_XA is not None
        return mean._replace(policy_XA=mean.policy_XA / mean.policy_XA.sum(axis=-1, keepdims=True))

    def _new_network(self) -> Any:
        return self.new_network(input_sizes(self.spec, self.config.reward_inputs))

    def _ready(self) -> tuple[Any, ...]:
        """The networks on their device, dropout off."""
        for network in self.networks:
            if network.training or next(network.parameters()).device.type != device():
                network.to(device()).eval()
        return self.networks

    def state(self) -> State:
        """The weights without copies for targets, by number of the network and name, and the chosen numbers."""
        weights = {
            f"{number}.{name}": weight.detach().cpu().numpy()
            for number, network in enumerate(self.networks)
            for name, weight in network.state_dict().items()
            if not is_target(name)
        }
        return weights | {f"{CHOSEN}.{name}": array for name, array in self.chosen.items()}

    def restore(self, state: State) -> None:
        self.chosen = dict(state_part(state, CHOSEN))
        self.networks = tuple(self._new_network() for _ in seeds_of(self.config.train))
        modules = nn.ModuleList(self.networks)
        targets = {name: weight for name, weight in modules.state_dict().items() if is_target(name)}
        weights = {name: torch.from_numpy(array) for name, array in state.items() if not name.startswith(f"{CHOSEN}.")}
        modules.load_state_dict(targets | weights)
        reset_targets(modules)

    def summary(self) -> str:
        weights = sum(p.numel() for p in self.networks[0].parameters())
        return f"{self.name}: {len(self.networks)} x {weights:,} weights"


def array_of(tensor: Tensor) -> Floats:
    """The numbers in float64, on the CPU."""
    array: Floats = tensor.double().cpu().numpy()
    return array


def policy_of(logits_BLA: Tensor) -> Floats:
    """The probability of each channel by its logits."""
    return array_of(logits_BLA.double().softmax(dim=-1))
