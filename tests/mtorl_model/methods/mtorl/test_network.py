from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_batch import SIZES, TINY, VARIANTS, pad_left, random_batch, with_garbage

from mtorl_model.data.batch import Batch, InputSizes
from mtorl_model.methods.mtorl.config import LossConfig, ModelConfig
from mtorl_model.methods.mtorl.losses import draw_pairs, total_loss
from mtorl_model.methods.mtorl.network import Network, Output

FLOAT_INPUTS = ("numeric_BLF", "action_in_BLA", "reward_in_BLR")

each_variant = pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS.keys())


def build(config: ModelConfig = TINY, sizes: InputSizes = SIZES) -> Network:
    """A model without a weight or bias of zero."""
    torch.manual_seed(1)
    model = Network(config, sizes)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model


def assert_same_at_real_steps(output: Output, expected: Output, valid_BL: torch.Tensor) -> None:
    for array, expected_array in zip(output, expected, strict=True):
        torch.testing.assert_close(array[valid_BL], expected_array[valid_BL], atol=1e-5, rtol=1e-5)


@each_variant
def test_no_output_reads_a_later_step(config):
    model, batch = build(config), random_batch(windows=1)
    inputs = {name: getattr(batch, name).requires_grad_() for name in FLOAT_INPUTS}
    output = model(batch)
    for t in (0, 4, 8):
        for logits in output:
            grads = torch.autograd.grad(logits[0, t].square().sum(), list(inputs.values()), retain_graph=True)
            for grad in grads:
                by_step_L = grad[0].abs().sum(dim=-1)
                assert by_step_L[t + 1 :].sum() == 0
                assert by_step_L[t] > 0


@pytest.mark.parametrize(
    ("config", "action_reads", "reward_reads"),
    [
        (TINY, range(9), range(2, 9)),  # kernel 3, dilations 1 and 2: 7 steps; attention: all
        (VARIANTS["w/o CausalAttn"], range(2, 9), range(2, 9)),
        (VARIANTS["w/o CausalState"], range(9), range(8, 9)),
    ],
    ids=["full", "w/o CausalAttn", "w/o CausalState"],
)
def test_outputs_read_the_past_they_are_meant_to(config, action_reads, reward_reads):
    model, batch = build(config), random_batch(windows=1)
    batch.numeric_BLF.requires_grad_()
    output = model(batch)
    for logits, reads in ((output.action_logits_BLA, action_reads), (output.reward_logits_BLO, reward_reads)):
        (grad,) = torch.autograd.grad(logits[0, 8].square().sum(), batch.numeric_BLF, retain_graph=True)
        assert (grad[0].abs().sum(dim=-1) > 0).nonzero().flatten().tolist() == list(reads)


@pytest.mark.parametrize("config", [*VARIANTS.values(), replace(TINY, heads=2)], ids=[*VARIANTS.keys(), "two heads"])
def test_last_step_gives_the_same_outputs_as_the_full_pass(config):
    model, batch = build(config).eval(), pad_left(random_batch(windows=5), 3)
    for inputs in (batch, with_garbage(batch)):
        all_steps, last = model(inputs), model.last_step(inputs)
        assert last.action_logits_BLA.shape[1] == 1
        torch.testing.assert_close(
            last.action_logits_BLA[:, -1], all_steps.action_logits_BLA[:, -1], atol=1e-5, rtol=1e-5
        )
        assert_same_at_real_steps(
            last._replace(action_logits_BLA=last.reward_logits_BLO),
            all_steps._replace(action_logits_BLA=all_steps.reward_logits_BLO),
            batch.valid_BL,
        )


@each_variant
def test_a_category_is_read_from_its_step_on(config):
    model, batch = build(config), random_batch(windows=1)
    output = model(batch)
    batch.categorical_BLK[0, 4] = (batch.categorical_BLK[0, 4] + 1) % torch.tensor(SIZES.vocabulary)
    changed_output = model(batch)
    for array, changed in zip(output, changed_output, strict=True):
        torch.testing.assert_close(changed[0, :4], array[0, :4])
        assert not torch.allclose(changed[0, 4], array[0, 4], atol=1e-4)


@each_variant
@pytest.mark.parametrize("training", [True, False])
def test_padding_and_labels_are_never_read(config, training):
    model, batch = build(config).train(training), random_batch()
    garbage = with_garbage(batch)
    assert garbage.numeric_BLF.isnan().any()
    output = model(garbage)
    assert_same_at_real_steps(output, model(batch), batch.valid_BL)
    assert all(x.isfinite().all() for x in output)
    labels = {"action_BL": torch.full_like(batch.action_BL, 2), "gains_BLG": 1 - batch.gains_BLG}
    assert_same_at_real_steps(model(batch._replace(**labels)), model(batch), batch.valid_BL)


@each_variant
def test_padding_and_unlabelled_steps_do_not_change_gradients(config):
    def gradients(batch: Batch) -> dict[str, torch.Tensor]:
        model = build(config)
        pairs = draw_pairs(batch, torch.Generator().manual_seed(0))
        total_loss(model(batch), batch, LossConfig(), model.form, pairs).total.backward()
        return {name: p.grad for name, p in model.named_parameters()}

    torch.testing.assert_close(gradients(with_garbage(random_batch())), gradients(random_batch()))


@settings(max_examples=25, deadline=None)
@given(extra=st.integers(1, 20), training=st.booleans(), seed=st.integers(0, 99))
def test_more_padding_changes_nothing(extra, training, seed):
    model, batch = build().train(training), random_batch(seed=seed)
    padded = model(pad_left(batch, extra))
    assert_same_at_real_steps(Output(*(x[:, extra:] for x in padded)), model(batch), batch.valid_BL)


def test_a_window_of_20_padded_to_25_keeps_its_outputs():
    model, batch = build(replace(TINY, steps=20)), random_batch(steps=20)
    padded = model(with_garbage(pad_left(batch, 5)))
    assert_same_at_real_steps(Output(*(x[:, 5:] for x in padded)), model(batch), batch.valid_BL)


def test_windows_do_not_affect_each_other():
    model, batch = build(replace(TINY, dropout=0.5)).eval(), random_batch()
    output = model(batch)
    for i in range(len(batch.valid_BL)):
        one_window = model(Batch(*(x[i : i + 1] for x in batch)))
        expected = Output(*(x[i : i + 1] for x in output))
        assert_same_at_real_steps(one_window, expected, batch.valid_BL[i : i + 1])


def test_dropout_shows_in_training_only():
    model, batch = build(replace(TINY, dropout=0.5)), random_batch()
    first, second = model(batch), model(batch)
    assert not torch.allclose(first.action_logits_BLA, second.action_logits_BLA)
    model.eval()
    assert torch.equal(model(batch).action_logits_BLA, model(batch).action_logits_BLA)


@each_variant
def test_one_huge_step_moves_every_weight(config):
    model, batch = build(config), random_batch(windows=64)
    old_weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimiser = torch.optim.SGD(model.parameters(), lr=1e6)
    total_loss(
        model(batch), batch, LossConfig(), model.form, draw_pairs(batch, torch.Generator().manual_seed(0))
    ).total.backward()
    optimiser.step()
    unmoved = {name: int((p == old_weights[name]).sum()) for name, p in model.named_parameters()}
    assert {name: n for name, n in unmoved.items() if n} == {}


def test_a_part_switched_off_has_no_weights():
    def parts(config: ModelConfig) -> set[str]:
        return {name.split(".")[0] for name, _ in Network(config, SIZES).named_parameters()}

    all_parts = {"embedding", "input", "convolutions", "state", "attention", "add_norm", "action", "reward"}
    assert parts(TINY) == all_parts
    assert parts(VARIANTS["w/o CausalState"]) == all_parts - {"convolutions", "state"}
    assert parts(VARIANTS["w/o CausalAttn"]) == all_parts - {"attention"}
    without_norm = Network(VARIANTS["w/o Add&Norm"], SIZES)
    assert not any(isinstance(m, torch.nn.LayerNorm) for m in without_norm.modules())


def test_reward_does_not_read_the_attention():
    model, batch = build(), random_batch()
    model(batch).reward_logits_BLO.sum().backward()
    reached = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert reached == {"embedding", "input", "convolutions", "state", "reward"}


def test_layers_are_as_many_as_configured():
    model = Network(replace(TINY, tcn_layers=3, addnorm_layers=4, reward_layers=5), SIZES)
    assert [c.conv.dilation for c in model.convolutions] == [(1,), (2,), (4,)]
    assert (len(model.add_norm), len(model.reward.layers)) == (4, 5)


@pytest.mark.parametrize("vocabulary", [(), (7,)])
def test_inputs_may_be_of_one_kind_only(vocabulary):
    sizes = InputSizes(vocabulary=vocabulary, numeric=0, actions=2, reward_inputs=0, gains=1)
    output = build(TINY, sizes)(random_batch(sizes=sizes) if vocabulary else _without_categories(sizes))
    assert output.action_logits_BLA.shape == (6, 9, 2)


def _without_categories(sizes: InputSizes) -> Batch:
    batch = random_batch(sizes=replace(sizes, vocabulary=(1,)))
    return batch._replace(categorical_BLK=batch.categorical_BLK[..., :0])


def output_of(form: str, reward_logits: list[float]) -> tuple[Network, Output]:
    """A model of that reward form, and an output of one step."""
    reward = torch.tensor([[reward_logits]])
    model = Network(replace(TINY, reward_form=form), SIZES)
    return model, Output(torch.tensor([[[0.0, 0.0, 1.0]]]).log(), reward, torch.zeros(1, 1, 8))


def test_policy_is_the_softmax_of_the_logits():
    model, batch = build(), random_batch()
    output = model(batch)
    e = output.action_logits_BLA.exp()
    torch.testing.assert_close(model.policy(output), e / e.sum(-1, keepdim=True))


def test_binary_form_predicts_each_gain():
    model, output = output_of("binary", [0.0, float(torch.tensor(0.2).logit())])
    torch.testing.assert_close(model.predicted_gains(output), torch.tensor([[[0.5, 0.2]]]))


def test_onehot_form_counts_a_later_class_as_the_gain_too():
    logits = torch.tensor([0.5, 0.3, 0.2]).log().tolist()
    model, output = output_of("onehot", logits)
    torch.testing.assert_close(model.predicted_gains(output), torch.tensor([[[0.5, 0.2]]]))


@pytest.mark.parametrize("form", ["continuous", "fused"])
def test_single_score_forms_give_every_gain_that_score(form):
    model, output = output_of(form, [float(torch.tensor(0.3).logit())])
    torch.testing.assert_close(model.predicted_gains(output), torch.tensor([[[0.3, 0.3]]]))


@each_variant
def test_predictions_have_their_shapes_and_ranges(config):
    model, batch = build(config), random_batch()
    output = model(batch)
    policy, gains = model.policy(output), model.predicted_gains(output)
    assert (policy.shape, gains.shape) == ((6, 9, 3), (6, 9, 2))
    torch.testing.assert_close(policy.sum(-1), torch.ones(6, 9))
    for p in (policy, gains):
        assert ((p > 0) & (p < 1)).all()


@each_variant
def test_bfloat16_autocast_stays_finite_and_near(config):
    model, batch = build(config), random_batch()
    exact = model(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(batch)
        losses = total_loss(
            output, batch, LossConfig(), model.form, draw_pairs(batch, torch.Generator().manual_seed(0))
        )
    losses.total.backward()
    assert losses.total.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    for array, exact_array in zip(output, exact, strict=True):
        assert array.dtype == torch.float32
        difference = (array - exact_array)[batch.valid_BL].abs().max()
        assert difference < 0.1 * exact_array[batch.valid_BL].abs().max()


@each_variant
def test_nothing_waits_for_the_device(config):
    """Tensors on the meta device have no values, so reading one by .item() or `if` raises an error."""
    model = Network(config, SIZES).to("meta")
    batch = random_batch().to_device("meta")
    losses = total_loss(model(batch), batch, LossConfig(), model.form, draw_pairs(batch, torch.Generator()))
    losses.total.backward()
    assert losses.total.is_meta


@pytest.mark.slow
def test_the_network_compiles_into_one_graph():
    model, batch = build(), random_batch()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert_same_at_real_steps(compiled(batch), model(batch), batch.valid_BL)


def test_one_seed_gives_the_same_weights():
    torch.manual_seed(5)
    first = Network(TINY, SIZES).state_dict()
    torch.manual_seed(5)
    second = Network(TINY, SIZES).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
