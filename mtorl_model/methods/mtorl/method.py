"""MTORL: an ensemble of networks that differ in their seed alone, and whose probabilities are averaged.

With ModelConfig.trees, a departure from the paper, gradient boosting predicts from the same inputs, and networks and
trees are blended with weights that are fitted on validation users. Trees need fewer labels to learn from a single step;
networks read the order of the steps, which trees do not see.

Shapes as in data/batch.py, N labels.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.utils import parametrize

from mtorl_model.data.batch import Batch, step_features
from mtorl_model.data.device import device
from mtorl_model.data.encoding import input_names, input_sizes
from mtorl_model.data.initial_policy import InitialPolicy
from mtorl_model.data.windows.store import WindowStore
from mtorl_model.methods import register
from mtorl_model.methods.common.blend import Blend, fit_blend
from mtorl_model.methods.common.channel_value import ChannelValues, channel_columns, has_enough_drawn
from mtorl_model.methods.common.label_rows import draw_labels
from mtorl_model.methods.common.label_trees import Features, LabelTrees, state_part
from mtorl_model.methods.common.networks.members import fine_tune_members, fit_members, seeded, seeds_of
from mtorl_model.methods.method import GAINS, POLICY, VALUES, Floats, Method, Prediction, Run, State, base_rates
from mtorl_model.methods.mtorl.config import MTORLConfig, presets
from mtorl_model.methods.mtorl.losses import MTORLLoss
from mtorl_model.methods.mtorl.network import Network, Output
from mtorl_model.training import data_parallel
from mtorl_model.training.config import FineTuneConfig
from mtorl_model.training.day_sample import DaySample
from mtorl_model.training.loop import History
from schemas.tables.feature_spec import FeatureSpec

Bools = npt.NDArray[np.bool_]


@register
class MTORL(Method):
    """The paper's method, corrected; config.train.members networks."""

    name = "mtorl"
    fine_tunes = True
    Config = MTORLConfig
    config: MTORLConfig

    def __init__(self, config: MTORLConfig, spec: FeatureSpec, initial_policy: InitialPolicy) -> None:
        super().__init__(config, spec, initial_policy)
        self.networks: tuple[Network, ...] = ()
        self.histories: list[History] = []  # of the last fit, one a network
        self.trees: LabelTrees | None = None  # None if config.model.trees is False
        self.blend = Blend.equal(len(spec.gains), 2)  # of the networks and the trees, in this order
        self.values: ChannelValues | None = None
        self.predicts = frozenset({POLICY, GAINS, VALUES} if config.model.trees else {POLICY, GAINS})

    @property
    def fits_latest(self) -> bool:
        return self.trees is not None

    @classmethod
    def presets(cls, dataset: str) -> dict[str, MTORLConfig]:
        return presets(dataset)

    def initialise(self) -> Self:
        """Create networks with random weights, which depend on the seeds only; returns itself."""
        self.networks = tuple(seeded(self._network, seed) for seed in seeds_of(self.config.train))
        return self

    def _network(self) -> Network:
        return Network(self.config.model, input_sizes(self.spec, self.config.reward_inputs))

    def _objective(self) -> MTORLLoss:
        return MTORLLoss(self.config.loss, self.config.model.form, self.spec.gains)

    def fit(self, train: WindowStore, valid: WindowStore, run: Run) -> Self:
        """Train one network after another; each has its own checkpoint."""
        self.networks, self.histories = fit_members(
            self._network, train, valid, self._objective(), self.config.train, run
        )
        if self.config.model.trees and data_parallel.is_first():  # the first process alone saves the model
            self.values = None
            self._fit_trees(train)
            self._fit_blend(valid)
        run.lines = [
            f"best of {len(history.epochs)} epochs is {history.best_epoch + 1}: validation loss "
            + ", ".join(f"of the {name} {loss:.4f}" for name, loss in history.best.valid.items())
            for history in self.histories
        ]
        return self

    def _fit_trees(self, train: WindowStore) -> None:
        """Fit trees and values on labels of the windows; see gain_weights for gains that may still follow."""
        config = self.config.boosting
        predict = None if train.labels_are_final else self._networks_prediction
        labels = draw_labels(train, config.most_labels, config.tree_seed, predict)
        self.trees = LabelTrees.fit(labels, config, len(self.spec.channels))
        # If the log has only now begun to draw channels at random, the values become effects.
        becomes_effect = has_enough_drawn(labels, len(self.spec.channels))
        if self.values is not None and (self.values.is_effect or not becomes_effect):
            self.values = self.values.refitted(labels, self.config.values)
            return
        record_AK = channel_columns(input_names(self.spec, self.config.reward_inputs), self.spec.channels)
        self.values = ChannelValues.fit(labels, record_AK, self.config.values)

    def _fit_blend(self, valid: WindowStore) -> None:
        assert self.trees is not None
        config = self.config.boosting
        labels = draw_labels(valid, config.most_labels, config.tree_seed, self._networks_prediction)
        assert labels.prediction is not None
        predictions = [labels.prediction, self.trees.predict(labels.feature_NF)]
        self.blend = fit_blend(predictions, labels.gain_NG, labels.maturity_NG, labels.action_N)

    def fine_tune(self, sample: DaySample, config: FineTuneConfig) -> dict[str, float]:
        """Each network learns from differently drawn batches; the names of the second network's losses end in _2.

        Trees are fitted again on sample.latest. The weights of the blend do not change.
        """
        curves = fine_tune_members(self.networks, sample, self._objective(), config)
        if self.trees is not None and len(sample.latest):
            self._fit_trees(sample.latest)
        return curves

    def predict(self, batch: Batch) -> Prediction:
        """The blend of networks and trees, or the mean of the networks alone if there are no trees.

        Networks compute in float32, on a GPU if there is one. The policy is adjusted for the channels' shares in the
        log (ModelConfig.prior_adjustment).
        """
        predicted = self._networks_prediction(batch)
        if self.trees is not None:
            valid_BL = batch.valid_BL.numpy()
            predicted = self._blended(predicted, step_features(batch, valid_BL), valid_BL)
        return self._adjusted(predicted)

    def predict_last(self, batch: Batch) -> Prediction:
        """See Method.predict_last. The gains of earlier steps are those of the networks: trees read the last step."""
        predicted = self._networks_last(batch)
        if self.trees is not None:
            is_last_BL = np.zeros(batch.valid_BL.shape, np.bool_)
            is_last_BL[:, -1] = True
            policy_B1A, gains_BLG = predicted.policy_and_gains
            last = Prediction(policy_B1A, gains_BLG[:, -1:])
            real_B1 = np.ones((len(policy_B1A), 1), np.bool_)
            last = self._blended(last, step_features(batch, is_last_BL), real_B1)
            gains_BLG[:, -1:] = last.policy_and_gains[1]
            predicted = last._replace(gains_XG=gains_BLG)
        return self._adjusted(predicted)

    @property
    def embedding_size(self) -> int:
        return self.config.model.hidden

    @torch.inference_mode()
    def embed_last(self, batch: Batch) -> npt.NDArray[np.float32]:
        """See Method.embed_last. It is that of the first network: axes of different networks have no common meaning."""
        network = self._ready()[0]
        embedding_BD: npt.NDArray[np.float32] = network.last_user_state(batch.to_device(device())).cpu().numpy()
        return embedding_BD

    @torch.inference_mode()
    def _networks_prediction(self, batch: Batch) -> Prediction:
        """The mean of the networks' predictions for every step, unadjusted."""
        batch = batch.to_device(device())
        return self._mean([(network, network(batch)) for network in self._ready()])

    @torch.inference_mode()
    def _networks_last(self, batch: Batch) -> Prediction:
        batch = batch.to_device(device())
        return self._mean([(network, network.last_step(batch)) for network in self._ready()])

    def _blended(self, networks: Prediction, features_NF: Features, steps_BL: Bools) -> Prediction:
        """The blend and the values at the marked steps, whose features these are.

        At the other steps, which are padding, it is the networks' prediction, and values are 0.
        """
        assert self.trees is not None
        assert self.values is not None
        blended = self.blend.predict([networks.take(steps_BL), self.trees.predict(features_NF)])
        policy_BLA, gains_BLG = (array.copy() for array in networks.policy_and_gains)
        policy_BLA[steps_BL], gains_BLG[steps_BL] = blended.policy_and_gains
        values_BLAG = np.zeros((*policy_BLA.shape, gains_BLG.shape[-1]))
        values_BLAG[steps_BL] = self.values.values(features_NF, gains_BLG[steps_BL])
        return Prediction(policy_BLA, gains_BLG, values_BLAG)

    def _adjusted(self, predicted: Prediction) -> Prediction:
        policy_XA, _ = predicted.policy_and_gains
        weight_XA = policy_XA / self.adjustment_A
        return predicted._replace(policy_XA=weight_XA / weight_XA.sum(axis=-1, keepdims=True))

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """Within this context the weights of the convolutions are normalised once instead of for every block.

        It affects the whole process: no model may be trained or copied with copy.deepcopy within it.
        """
        self._ready()
        with parametrize.cached():
            yield

    def _ready(self) -> tuple[Network, ...]:
        """The networks on their device, dropout off."""
        for network in self.networks:
            # `to` and `eval` visit all modules of the network, which is too slow for every block of windows.
            if network.training or next(network.parameters()).device.type != device():
                network.to(device()).eval()
        return self.networks

    def _mean(self, outputs: Sequence[tuple[Network, Output]]) -> Prediction:
        policy_BLA: Floats = np.mean([_array(network.policy(output)) for network, output in outputs], axis=0)
        gains_BLG = np.mean([_array(network.predicted_gains(output)) for network, output in outputs], axis=0)
        # float32 sums to 1 within 1e-7 only, and its sums of probabilities can pass 1 by as much.
        return Prediction(policy_BLA, np.minimum(gains_BLG, 1.0))

    def base_values(self) -> Floats | None:
        return None if self.values is None else self.values.base_values(np.array(base_rates(self)))

    @property
    def best_channel(self) -> int:
        return super().best_channel if self.values is None else self.values.best_channel

    @property
    def adjustment_A(self) -> Floats:
        """The channels' shares in training, to the power of prior_adjustment."""
        divide_by_A: Floats = np.array(self.initial_policy.channel_shares) ** self.config.model.prior_adjustment
        return divide_by_A

    def state(self) -> State:
        """The weights, by number of the network and name; trees and blend, if there are trees."""
        state = {
            f"{number}.{name}": weight.detach().cpu().numpy()
            for number, network in enumerate(self.networks)
            for name, weight in network.state_dict().items()
        }
        if self.trees is not None:
            state |= {f"trees.{name}": array for name, array in self.trees.state().items()}
            state |= {f"blend.{name}": array for name, array in self.blend.state().items()}
        if self.values is not None:
            state |= {f"values.{name}": array for name, array in self.values.state().items()}
        return state

    def restore(self, state: State) -> None:
        parts = {name: state_part(state, name) for name in ("trees", "blend", "values")}
        weights = {k: torch.from_numpy(array) for k, array in state.items() if k.partition(".")[0] not in parts}
        self.networks = tuple(self._network() for _ in seeds_of(self.config.train))
        torch.nn.ModuleList(self.networks).load_state_dict(weights)
        if self.config.model.trees:
            self.trees = LabelTrees.from_state(parts["trees"], len(self.spec.channels), len(self.spec.gains))
            self.blend = Blend.from_state(parts["blend"])
            self.values = ChannelValues.from_state(parts["values"], len(self.spec.gains))

    def summary(self) -> str:
        weights = sum(p.numel() for p in self.networks[0].parameters())
        trees = " and gradient boosting" if self.trees is not None else ""
        return f"{len(self.networks)} x {weights:,} weights{trees}"


def _array(probabilities: Tensor) -> Floats:
    array: Floats = probabilities.double().cpu().numpy()
    return array
