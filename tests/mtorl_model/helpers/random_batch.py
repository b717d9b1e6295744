"""Random batches for the tests of the model: left-padded windows, context steps, unknown channels."""

from dataclasses import replace

import torch

from mtorl_model.data.batch import Batch, InputSizes
from mtorl_model.methods.mtorl.config import ModelConfig

SIZES = InputSizes(vocabulary=(5, 3), numeric=4, actions=3, reward_inputs=2, gains=2)
TINY = ModelConfig(hidden=8, heads=2, dropout=0.0, steps=9)

VARIANTS = {
    **{form: replace(TINY, reward_form=form) for form in ("binary", "continuous", "fused", "onehot")},
    "w/o CausalState": replace(TINY, use_state_encoder=False),
    "w/o CausalAttn": replace(TINY, use_attention=False),
    "w/o Add&Norm": replace(TINY, use_addnorm=False),
}


def random_batch(windows: int = 6, steps: int = 9, seed: int = 0, sizes: InputSizes = SIZES) -> Batch:
    """Window i has `steps`, steps - 1, ... real steps in turn, at least 2. The first step of each window is context."""
    g = torch.Generator().manual_seed(seed)
    real_B = steps - torch.arange(windows) % (steps - 1)
    position_L = torch.arange(steps)
    valid_BL = position_L >= (steps - real_B).unsqueeze(1)
    label_BL = position_L > (steps - real_B).unsqueeze(1)
    shape = (windows, steps)
    known_BL = label_BL & (torch.rand(shape, generator=g) < 0.9)
    return Batch(
        categorical_BLK=torch.stack([torch.randint(v, shape, generator=g) for v in sizes.vocabulary], dim=-1)
        * valid_BL.unsqueeze(-1),
        numeric_BLF=torch.randn(*shape, sizes.numeric, generator=g) * valid_BL.unsqueeze(-1),
        action_in_BLA=torch.randn(*shape, sizes.actions, generator=g) * valid_BL.unsqueeze(-1),
        reward_in_BLR=torch.rand(*shape, sizes.reward_inputs, generator=g) * valid_BL.unsqueeze(-1),
        valid_BL=valid_BL,
        label_BL=label_BL,
        action_BL=torch.where(known_BL, torch.randint(sizes.actions, shape, generator=g), -1),
        gains_BLG=(torch.rand(*shape, sizes.gains, generator=g) < 0.4).float() * label_BL.unsqueeze(-1),
        maturity_BLG=torch.ones(*shape, sizes.gains),
        reward_BL=torch.rand(shape, generator=g) * label_BL,
    )


def with_garbage(batch: Batch) -> Batch:
    """The same windows with nonsense in all values that must not be read: inputs at padding, labels of other steps."""
    padding_BL, unlabelled_BL = ~batch.valid_BL, ~batch.label_BL

    def spoil(x: torch.Tensor, where_BL: torch.Tensor) -> torch.Tensor:
        nonsense = float("nan") if x.is_floating_point() else 10**6
        return x.masked_fill(where_BL.reshape(*where_BL.shape, *(1 for _ in x.shape[2:])), nonsense)

    inputs = ("categorical_BLK", "numeric_BLF", "action_in_BLA", "reward_in_BLR")
    labels = ("action_BL", "gains_BLG", "maturity_BLG", "reward_BL")
    return batch._replace(
        **{name: spoil(getattr(batch, name), padding_BL) for name in inputs},
        **{name: spoil(getattr(batch, name), unlabelled_BL) for name in labels},
    )


def pad_left(batch: Batch, steps: int) -> Batch:
    """The same windows with `steps` more steps of padding on the left."""
    return Batch(*(torch.cat([torch.zeros_like(x[:, :1]).expand(-1, steps, *x.shape[2:]), x], dim=1) for x in batch))
