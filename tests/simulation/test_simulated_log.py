"""Labels from a simulated past do not contain gains that become known after the campaigns have begun."""

import numpy as np
import pytest

from mtorl_model.data.encoding import Encoder
from simulation.learning import MODEL, TRAIN_SEED
from simulation.simulated_log import CONVERSION, Log, fit_spec, simulate_log
from simulation.simulator import DATASET, Simulator

USERS = 400


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(fit_spec(150, TRAIN_SEED, MODEL.form.inputs), DATASET, MODEL.form.inputs)


@pytest.fixture(scope="module")
def log(encoder) -> Log:
    return simulate_log(encoder, USERS, TRAIN_SEED)


@pytest.mark.slow(0.5)
def test_labels_are_those_that_are_known_when_the_campaigns_begin(log):
    simulator = Simulator(USERS, TRAIN_SEED)
    known = [gain for moment, _ in simulator.reset() for gain in moment.late]
    known += simulator.moment(0).late
    conversions = sum(int(gains[:, CONVERSION].sum()) for gains in simulator.past_gains)
    assert 20 < len(known) < 0.8 * conversions  # the others become known later
    labels = log.windows.gains_NLG[..., CONVERSION][log.windows.label_NL].sum()
    first_exposures = len(known) - labels  # a user's first exposure is not a label
    assert 0 <= first_exposures < len(known) / 4
    clicks = log.windows.gains_NLG[..., 0][log.windows.label_NL].sum()
    assert clicks > 0.9 * sum(int(gains[:, 0].sum()) for gains in simulator.past_gains)


@pytest.mark.slow(0.5)
def test_recent_labels_have_a_lower_maturity(log, encoder):
    windows = log.windows
    maturity = windows.maturity_NLG[windows.label_NL]
    assert (maturity[:, 0] == 1).all()  # clicks are known with their exposure
    assert maturity[:, CONVERSION].min() < 0.4
    assert maturity[:, CONVERSION].max() > 0.9
    maturity_WL = windows.maturity_NLG[..., CONVERSION] * windows.valid_NL
    has_two_steps_W = windows.valid_NL[:, -2] & windows.valid_NL[:, -1]
    assert (maturity_WL[has_two_steps_W, -1] <= maturity_WL[has_two_steps_W, -2]).all()
    validation_log = simulate_log(encoder, 50, TRAIN_SEED + 1, log.maturity)
    assert validation_log.maturity is log.maturity  # nothing is fitted on validation users
    assert np.isfinite(validation_log.windows.reward_NL).all()
