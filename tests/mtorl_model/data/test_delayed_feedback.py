"""Labels at a cutoff, the estimate of delays, and the loss of labels whose gain may still follow."""

import math

import numpy as np
import pytest
import synthetic
import torch
from random_batch import SIZES, random_batch

from lakehouse.lake import Lake
from mtorl_model.data.delayed_feedback import (
    LIKELIHOOD,
    NO_CORRECTION,
    WAIT,
    WITHOUT_DELAY,
    FeedbackConfig,
    LabelCutoff,
    Maturity,
    estimate_delays,
    fit_cutoff,
)
from mtorl_model.data.encoding import Encoded, Encoder
from mtorl_model.data.windows.reading import read_windows
from mtorl_model.methods.mtorl.reward_forms import REWARD_FORMS
from schemas.dataset import get_dataset

CRITEO = get_dataset("criteo")
DAYS = ("2022-04-10", "2022-04-11", "2022-04-12")
INPUTS = [name for name in Encoded._fields if name not in ("gains_NLG", "maturity_NLG", "reward_NL")]


@pytest.fixture(scope="module")
def criteo_lake(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, Encoder, list]:
    """A lake with late conversions, its encoder, and all its windows."""
    lake, spec = synthetic.write_lake(tmp_path_factory.mktemp("criteo"), "criteo", DAYS[0], DAYS[-1], users=40)
    tables = list(read_windows(lake, CRITEO, DAYS, _columns(spec), spec.channels))
    return lake, Encoder(spec, CRITEO), tables


def _columns(spec) -> list[str]:
    encoder = Encoder(spec, CRITEO)
    return list(dict.fromkeys((*encoder.columns, *encoder.time_columns)))


def test_the_estimate_corrects_for_slow_gains_that_are_not_known_yet():
    rng = np.random.default_rng(0)
    delay, age = rng.exponential(3.0, 40_000), rng.uniform(0, 20.0, 40_000)
    is_known = delay < age
    estimate = estimate_delays(delay[is_known], age[is_known])
    ages = np.array([0.5, 1.0, 2.0, 4.0, 8.0])
    truth = (1 - np.exp(-ages / 3)) / (1 - math.exp(-20 / 3))  # for delays up to 20 days
    naive = np.searchsorted(np.sort(delay[is_known]), ages) / is_known.sum()
    assert estimate.share_known(ages) == pytest.approx(truth, abs=0.02)
    assert np.abs(naive - truth).max() > 0.05
    assert estimate.share_known(np.array([0.0, 1e9])).tolist() == [0.0, 1.0]
    assert (np.diff(estimate.share) >= 0).all()


def test_with_few_gains_no_delay_is_assumed():
    estimate = estimate_delays(np.array([1.0, 2.0]), np.array([5.0, 6.0]))
    assert estimate.share_known(np.array([0.0, 3.0])).tolist() == [1.0, 1.0]


def test_gains_after_the_cutoff_are_not_labels_and_no_input_changes(criteo_lake):
    _, encoder, tables = criteo_lake
    at_ms = synthetic.FIRST_DAY_MS + 2 * synthetic.DAY_MS
    maturity = Maturity(np.array([3600.0]), np.array([1.0]))
    hidden = 0
    for table in tables:
        full, cut = encoder.encode(table), encoder.encode(table, LabelCutoff(at_ms, {"conversion": maturity}))
        for name in INPUTS:
            assert np.array_equal(getattr(full, name), getattr(cut, name)), name
        assert np.array_equal(full.gains_NLG[..., 0], cut.gains_NLG[..., 0])  # a click comes with its exposure
        known_at = np.array([[math.inf if t is None else t for t in row] for row in
                             table.column("conversion_at_ms").to_pylist()])  # fmt: skip
        assert np.array_equal(cut.gains_NLG[..., 1], full.gains_NLG[..., 1] * (known_at < at_ms))
        hidden += int((full.gains_NLG - cut.gains_NLG).sum())
        changed = (full.gains_NLG != cut.gains_NLG).any(axis=-1)
        assert (cut.reward_NL[changed] < full.reward_NL[changed]).all()
        exposed = np.array([[math.nan if t is None else t for t in row] for row in
                            table.column("exposed_at_ms").to_pylist()])  # fmt: skip
        old = (at_ms - exposed) / 1000 >= 3600
        assert np.array_equal(cut.maturity_NLG[..., 1][full.valid_NL], old[full.valid_NL].astype(np.float32))
        assert (cut.maturity_NLG[..., 0] == 1).all()
        assert (full.maturity_NLG == 1).all()
    assert hidden > 50


def test_each_correction_has_its_maturity(criteo_lake):
    _, _, tables = criteo_lake
    at_ms = synthetic.FIRST_DAY_MS + 3 * synthetic.DAY_MS
    age = np.array([0.1, 1.0, 2.0]) * 86_400

    def maturity(correction: str, **settings: float) -> np.ndarray:
        config = FeedbackConfig(correction, **settings)
        return fit_cutoff(at_ms, tables, CRITEO, config).maturity["conversion"].share_known(age)

    assert maturity(NO_CORRECTION).tolist() == [1, 1, 1]
    assert maturity(WAIT, waiting_days=1.0).tolist() == [0, 1, 1]
    truth = (1 - np.exp(-age / 86_400 / 1.5)) / (1 - math.exp(-3 / 1.5))
    assert maturity(LIKELIHOOD) == pytest.approx(truth, abs=0.12)
    assert fit_cutoff(at_ms, tables, get_dataset("kuairand"), FeedbackConfig()).maturity == {}


def test_the_key_of_a_cutoff_depends_on_moment_and_maturity():
    keys = {
        LabelCutoff(5, {"sale": WITHOUT_DELAY}).key,
        LabelCutoff(6, {"sale": WITHOUT_DELAY}).key,
        LabelCutoff(5, {"sale": Maturity(np.ones(1), np.ones(1))}).key,
    }
    assert len(keys) == 3


def losses(maturity: float, gain: float, logit: float) -> tuple[float, float]:
    """The loss of one label of the first gain, and its derivative with respect to the logit."""
    batch = random_batch(windows=1, steps=3)
    label_BL = torch.zeros(1, 3, dtype=torch.bool)
    label_BL[0, 2] = True
    logits = torch.full((1, 3, SIZES.gains), logit, requires_grad=True)
    batch = batch._replace(
        label_BL=label_BL,
        gains_BLG=torch.full((1, 3, SIZES.gains), gain),
        maturity_BLG=torch.full((1, 3, SIZES.gains), maturity),
    )
    loss = REWARD_FORMS["binary"].losses(logits, batch)[0]
    loss.backward()
    return loss.item(), logits.grad[0, 2, 0].item()


@pytest.mark.parametrize("logit", [-4.0, 0.3, 9.0])
@pytest.mark.parametrize("maturity", [0.05, 0.6, 1.0])
def test_a_label_without_a_known_gain_costs_its_negative_log_likelihood(maturity, logit):
    p = 1 / (1 + math.exp(-logit))
    loss, gradient = losses(maturity, 0.0, logit)
    assert loss == pytest.approx(-math.log(1 - maturity * p), rel=1e-4, abs=1e-6)
    # A reweighted cross-entropy: p, times P(a gain would be known), times P(no gain will come | no gain is known).
    assert gradient == pytest.approx(p * maturity * (1 - p) / (1 - maturity * p), rel=1e-3, abs=1e-6)
    gained, gradient = losses(maturity, 1.0, logit)
    assert gained == pytest.approx(-math.log(p), rel=1e-4, abs=1e-6)
    assert gradient == pytest.approx(p - 1, rel=1e-3, abs=1e-6)


def test_a_label_with_maturity_0_has_no_loss_and_no_gradient():
    for gain in (0.0, 1.0):
        assert losses(0.0, gain, 0.7) == (0.0, 0.0)
