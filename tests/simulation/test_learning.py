"""What is learned from a simulated past: nothing that is known only after the campaigns have begun."""

import numpy as np

from mtorl_model.data.encoding import Encoder
from simulation import learning
from simulation.learning import _CONVERSION, MODEL, TRAIN_SEED
from simulation.simulator import Simulator

USERS = 400


def test_labels_hold_what_is_known_when_the_campaigns_begin():
    encoder = Encoder(learning._spec(150, 0), learning.DATASET, MODEL.form.inputs)
    log = learning._log(encoder, USERS, TRAIN_SEED)
    simulator = Simulator(USERS, TRAIN_SEED)
    heard = [news for moment, _ in simulator.reset() for news in moment.late]
    heard += simulator.moment(0).late
    full = sum(int(gains[:, _CONVERSION].sum()) for gains in simulator.past_gains)
    assert 20 < len(heard) < 0.8 * full  # the others are still to come
    labels = log.windows.gains_NLG[..., _CONVERSION][log.windows.label_NL].sum()
    firsts = len(heard) - labels  # a user's first exposure is no label
    assert 0 <= firsts < len(heard) / 4
    clicks = log.windows.gains_NLG[..., 0][log.windows.label_NL].sum()
    assert clicks > 0.9 * sum(int(gains[:, 0].sum()) for gains in simulator.past_gains)


def test_an_unripe_label_is_told_as_one():
    encoder = Encoder(learning._spec(150, 0), learning.DATASET, MODEL.form.inputs)
    log = learning._log(encoder, USERS, TRAIN_SEED)
    windows = log.windows
    ripe = windows.maturity_NLG[windows.label_NL]
    assert (ripe[:, 0] == 1).all()  # clicks are known at once
    assert ripe[:, _CONVERSION].min() < 0.4
    assert ripe[:, _CONVERSION].max() > 0.9
    last_WL = windows.maturity_NLG[..., _CONVERSION] * windows.valid_NL
    both_W = windows.valid_NL[:, -2] & windows.valid_NL[:, -1]
    assert (last_WL[both_W, -1] <= last_WL[both_W, -2]).all()  # the newer, the less ripe
    other = learning._log(encoder, 50, TRAIN_SEED + 1, log.maturity)
    assert other.maturity is log.maturity  # nothing is fitted on validation users
    assert np.isfinite(other.windows.reward_NL).all()
