"""The losses of CQL, IQL, DT and ODT equal those of torchrl, on random batches with copied weights."""

from typing import TYPE_CHECKING

import pytest
import torch
from random_batch import random_batch
from synthetic import make_spec
from torch import Tensor, nn

from mtorl_model.data.batch import Batch, InputSizes
from mtorl_model.data.initial_policy import InitialPolicy
from mtorl_model.methods.baselines.cql import CQL, CQLConfig, QValues
from mtorl_model.methods.baselines.dt import DT, DTConfig
from mtorl_model.methods.baselines.iql import IQL, IQLConfig, IQLOutput
from mtorl_model.methods.baselines.odt import ODT, ODTConfig, ODTOutput, entropies
from mtorl_model.methods.common.masks import masked_mean
from schemas.dataset import get_dataset

if TYPE_CHECKING:
    from tensordict import TensorDict

pytestmark = pytest.mark.slow
ROWS, STATE, ACTIONS, DISCOUNT = 64, 5, 3, 0.9
SPEC = make_spec(get_dataset("kuairand"), "2022-04-10", "2022-04-11")
EVEN = InitialPolicy(SPEC.channels, (1 / 3,) * 3, {}, (1 / 3,) * 3)


@pytest.fixture(scope="module", autouse=True)
def torchrl() -> None:
    """Imported by the tests themselves: it takes seconds, also in test runs without them."""
    pytest.importorskip("torchrl", reason="torchrl is not installed: pip install -r requirements-bench.txt")


def transitions() -> tuple[Batch, Tensor]:
    """Windows of two steps, the second of which is a label; and their states, (B, 2, S)."""
    torch.manual_seed(0)
    batch = random_batch(ROWS, 2, sizes=InputSizes((2,), 1, ACTIONS, 1, 2))
    real_BL = torch.ones(ROWS, 2, dtype=torch.bool)
    label_BL = torch.tensor([False, True]).expand(ROWS, 2)
    action_BL, reward_BL = torch.randint(ACTIONS, (ROWS, 2)), torch.rand(ROWS, 2)
    batch = batch._replace(valid_BL=real_BL, label_BL=label_BL, action_BL=action_BL, reward_BL=reward_BL)
    return batch, torch.randn(ROWS, 2, STATE)


def start_labels(batch: Batch) -> Batch:
    """The same steps with the first as the label: torchrl has all losses at the start of a transition."""
    return batch._replace(label_BL=batch.label_BL.flip(1))


def as_tensordict(batch: Batch, state_BLS: Tensor) -> "TensorDict":
    from tensordict import TensorDict

    one_hot = nn.functional.one_hot(batch.action_BL[:, 0], ACTIONS)
    ended = torch.zeros(ROWS, 1, dtype=torch.bool)
    following = {"observation": state_BLS[:, 1], "reward": batch.reward_BL[:, :1], "done": ended, "terminated": ended}
    return TensorDict({"observation": state_BLS[:, 0], "action": one_hot, "next": following}, [ROWS])


def part(method: object, name: str, output: object, batch: Batch) -> Tensor:
    chosen = next(p for p in method.objective().parts if p.name == name)
    return masked_mean(chosen.losses(output, batch), chosen.labels(batch))


def perturb(parameters: "TensorDict") -> None:
    """A target network differs from the learned one."""
    for weight in parameters.values(True, True):
        weight.data.add_(torch.randn_like(weight))


def applied(parameters: "TensorDict", state_BLS: Tensor) -> Tensor:
    """A linear layer with these parameters."""
    flat = {"weight": None, "bias": None}
    for key, value in parameters.flatten_keys(".").items():
        flat[key.rpartition(".")[2]] = value.data
    weight, bias = (value[0] if value.dim() > dim else value for value, dim in zip(flat.values(), (2, 1), strict=True))
    return state_BLS @ weight.T + bias


def policy_of(actor: nn.Module) -> nn.Module:
    from tensordict.nn import ProbabilisticTensorDictModule, ProbabilisticTensorDictSequential, TensorDictModule
    from torchrl.modules import OneHotCategorical

    return ProbabilisticTensorDictSequential(
        TensorDictModule(actor, in_keys=["observation"], out_keys=["logits"]),
        ProbabilisticTensorDictModule(in_keys=["logits"], out_keys=["action"], distribution_class=OneHotCategorical),
    )


def test_conservative_q_learning() -> None:
    from torchrl.data import OneHot
    from torchrl.modules import QValueActor
    from torchrl.objectives import DiscreteCQLLoss

    batch, state_BLS = transitions()
    network = nn.Linear(STATE, ACTIONS)
    loss = DiscreteCQLLoss(
        QValueActor(network, in_keys=["observation"], spec=OneHot(ACTIONS)), loss_function="l2", action_space="one_hot"
    )
    loss.make_value_estimator(gamma=DISCOUNT)
    reference = loss(as_tensordict(batch, state_BLS))
    # torchrl 0.14.1 computes the target with a copy of the learned network, whatever its target parameters are.
    target_BLA = network(state_BLS).detach()
    method = CQL(CQLConfig(discount=DISCOUNT), SPEC, EVEN)
    output = QValues(network(state_BLS), target_BLA.amax(dim=-1))
    torch.testing.assert_close(part(method, "td", output, batch), reference["loss_qvalue"], atol=1e-5, rtol=1e-5)
    conservative = part(method, "channel", output, start_labels(batch))
    torch.testing.assert_close(conservative, reference["loss_cql"], atol=1e-5, rtol=1e-5)


def test_implicit_q_learning() -> None:
    from tensordict.nn import TensorDictModule
    from torchrl.objectives import DiscreteIQLLoss

    batch, state_BLS = transitions()
    actor, q, value = nn.Linear(STATE, ACTIONS), nn.Linear(STATE, ACTIONS), nn.Linear(STATE, 1)
    policy = policy_of(actor)
    loss = DiscreteIQLLoss(
        policy,
        TensorDictModule(q, in_keys=["observation"], out_keys=["state_action_value"]),
        TensorDictModule(value, in_keys=["observation"], out_keys=["state_value"]),
        action_space="one_hot", num_qvalue_nets=1, loss_function="l2", temperature=3.0, expectile=0.7,
    )  # fmt: skip
    loss.make_value_estimator(gamma=DISCOUNT)
    perturb(loss.target_qvalue_network_params)
    reference = loss(as_tensordict(batch, state_BLS))
    target_BLA = applied(loss.target_qvalue_network_params, state_BLS)
    output = IQLOutput(
        actor(state_BLS),
        applied(loss.qvalue_network_params, state_BLS),
        target_BLA.gather(-1, batch.action_BL.unsqueeze(-1)).squeeze(-1),
        value(state_BLS).squeeze(-1),
    )
    method = IQL(IQLConfig(discount=DISCOUNT), SPEC, EVEN)
    for name, reference_name in (("value", "loss_value"), ("policy", "loss_actor")):
        loss_here = part(method, name, output, start_labels(batch))
        torch.testing.assert_close(loss_here, reference[reference_name], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(part(method, "td", output, batch), reference["loss_qvalue"], atol=1e-5, rtol=1e-5)


def test_decision_transformers() -> None:
    from torchrl.objectives import OnlineDTLoss

    batch, state_BLS = transitions()
    actor = nn.Linear(STATE, ACTIONS)
    policy = policy_of(actor)
    loss = OnlineDTLoss(policy, alpha_init=0.5, target_entropy=0.3, samples_mc_entropy=20_000)
    reference = loss(as_tensordict(batch, state_BLS).exclude("next"))
    logits_BLA = actor(state_BLS)
    decision = part(DT(DTConfig(), SPEC, EVEN), "channel", logits_BLA, start_labels(batch))
    torch.testing.assert_close(decision, reference["loss_log_likelihood"], atol=1e-5, rtol=1e-5)
    config = ODTConfig(entropy_share=0.3 / torch.tensor(float(ACTIONS)).log().item())
    output = ODTOutput(logits_BLA, torch.tensor(0.5).log())
    odt = ODT(config, SPEC, EVEN)
    # torchrl draws samples for the entropy, so these are equal up to the error of the samples.
    torch.testing.assert_close(entropies(logits_BLA[:, 0]).mean(), reference["entropy"], atol=5e-3, rtol=0)
    for name, reference_name in (("entropy", "loss_entropy"), ("dual", "loss_alpha")):
        loss_here = part(odt, name, output, start_labels(batch))
        torch.testing.assert_close(loss_here, reference[reference_name], atol=5e-3, rtol=0)
