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
    """A model with every weight away from zero, biases too."""
    torch.manual_seed(1)
    model = Network(config, sizes)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model


def assert_same_at_real_steps(got: Output, want: Output, valid_BL: torch.Tensor) -> None:
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g[valid_BL], w[valid_BL], atol=1e-5, rtol=1e-5)


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
def test_the_last_step_alone_is_told_what_it_is_told_among_all(config):
    model, batch = build(config).eval(), pad_left(random_batch(windows=5), 3)
    for inputs in (batch, with_garbage(batch)):
        every, last = model(inputs), model.last_step(inputs)
        assert last.action_logits_BLA.shape[1] == 1
        torch.testing.assert_close(last.action_logits_BLA[:, -1], every.action_logits_BLA[:, -1], atol=1e-5, rtol=1e-5)
        assert_same_at_real_steps(
            last._replace(action_logits_BLA=last.reward_logits_BLO),
            every._replace(action_logits_BLA=every.reward_logits_BLO),
            batch.valid_BL,
        )


@each_variant
def test_a_category_is_read_from_its_step_on(config):
    model, batch = build(config), random_batch(windows=1)
    before = model(batch)
    batch.categorical_BLK[0, 4] = (batch.categorical_BLK[0, 4] + 1) % torch.tensor(SIZES.vocabulary)
    after = model(batch)
    for b, a in zip(before, after, strict=True):
        torch.testing.assert_close(a[0, :4], b[0, :4])
        assert not torch.allclose(a[0, 4], b[0, 4], atol=1e-4)


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
def test_padding_and_unlabelled_steps_teach_nothing(config):
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
    want, got = model(batch), model(pad_left(batch, extra))
    shifted = Output(*(x[:, extra:] for x in got))
    assert_same_at_real_steps(shifted, want, batch.valid_BL)


def test_a_window_of_20_padded_to_25_keeps_its_outputs():
    model, batch = build(replace(TINY, steps=20)), random_batch(steps=20)
    got = model(with_garbage(pad_left(batch, 5)))
    assert_same_at_real_steps(Output(*(x[:, 5:] for x in got)), model(batch), batch.valid_BL)


def test_windows_do_not_see_each_other():
    model, batch = build(replace(TINY, dropout=0.5)).eval(), random_batch()
    together = model(batch)
    for i in range(len(batch.valid_BL)):
        alone = model(Batch(*(x[i : i + 1] for x in batch)))
        one = Output(*(x[i : i + 1] for x in together))
        assert_same_at_real_steps(alone, one, batch.valid_BL[i : i + 1])


def test_dropout_shows_in_training_only():
    model, batch = build(replace(TINY, dropout=0.5)), random_batch()
    first, second = model(batch), model(batch)
    assert not torch.allclose(first.action_logits_BLA, second.action_logits_BLA)
    model.eval()
    assert torch.equal(model(batch).action_logits_BLA, model(batch).action_logits_BLA)


@each_variant
def test_one_huge_step_moves_every_weight(config):
    model, batch = build(config), random_batch(windows=64)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimiser = torch.optim.SGD(model.parameters(), lr=1e6)
    total_loss(
        model(batch), batch, LossConfig(), model.form, draw_pairs(batch, torch.Generator().manual_seed(0))
    ).total.backward()
    optimiser.step()
    unmoved = {name: int((p == before[name]).sum()) for name, p in model.named_parameters()}
    assert {name: n for name, n in unmoved.items() if n} == {}


def test_a_part_switched_off_has_no_weights():
    def parts(config: ModelConfig) -> set[str]:
        return {name.split(".")[0] for name, _ in Network(config, SIZES).named_parameters()}

    everything = {"embedding", "input", "convolutions", "state", "attention", "add_norm", "action", "reward"}
    assert parts(TINY) == everything
    assert parts(VARIANTS["w/o CausalState"]) == everything - {"convolutions", "state"}
    assert parts(VARIANTS["w/o CausalAttn"]) == everything - {"attention"}
    without = Network(VARIANTS["w/o Add&Norm"], SIZES)
    assert not any(isinstance(m, torch.nn.LayerNorm) for m in without.modules())


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
    for got, want in zip(output, exact, strict=True):
        assert got.dtype == torch.float32
        assert (got - want)[batch.valid_BL].abs().max() < 0.1 * want[batch.valid_BL].abs().max()


@each_variant
def test_nothing_waits_for_the_device(config):
    """On the meta device there are no values: reading one, by .item() or an if, raises."""
    model = Network(config, SIZES).to("meta")
    batch = random_batch().to("meta")
    losses = total_loss(model(batch), batch, LossConfig(), model.form, draw_pairs(batch, torch.Generator()))
    losses.total.backward()
    assert losses.total.is_meta


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
