from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import synthetic

from mtorl_model.data.encoding import NUMERIC_LIMIT, PRIOR_EXPOSURES, PRIOR_GAINS, Encoded, Encoder
from mtorl_model.methods.mtorl.reward_forms import REWARD_FORMS
from schemas.dataset import get_dataset
from schemas.errors import UserError
from schemas.tables.feature_spec import Feature, FeatureSpec, RewardScale

KUAIRAND = get_dataset("kuairand")
SPEC = FeatureSpec(
    dataset="kuairand",
    first_day="2022-04-10",
    last_day="2022-04-11",
    channels=("short", "mid", "long"),
    gains=("click", "long_view"),
    gain_weights=(1.0, 2.0),
    reward=RewardScale(penalty=0.5, low=-1.0, high=3.0),
    features=(
        Feature("user_active_degree", "categorical", True, True, vocabulary=("high", "low")),
        Feature("gap_s", "numeric", False, True, mean=1.0, std=2.0, unit=3.0),
        Feature("hour", "categorical", False, True, vocabulary=("7", "23")),
        Feature("weekday", "categorical", False, False, reason="constant"),
        Feature("last_play_time_ms", "numeric", False, True, mean=10.0, std=5.0),
        Feature("register_days", "numeric", True, True, mean=100.0, std=10.0),
    ),
)
NONE3 = [None, None, None]

# Four positions: padding, the first exposure (context), a step after two exposures with one
# time stamp, and a step whose channel is unknown.
WINDOW: dict[str, Any] = {
    "user_id": 1,
    "window": 0,
    "split": "train",
    "valid": [False, True, True, True],
    "is_label": [False, False, True, True],
    "user_active_degree": "low",
    "register_days": 120.0,
    "channel": [None, "long", "mid", None],
    "click": [None, 0, 1, 1],
    "long_view": [None, 0, 1, 0],
    "cost": [None, 0.0, 2.0, 40.0],
    "hour": [None, 7, 12, 23],
    "gap_s": [None, 0.0, 3 * (np.e - 1), 1e30],
    "last_play_time_ms": [None, None, 20.0, -1e9],
    "seen_exposures": [None, 0, 2, 3],
    "seen_click": [None, 0, 2, 3],
    "seen_long_view": [None, 0, 0, 1],
    "new_exposures": [None, 0, 2, 1],
    "new_click": [None, 0, 2, 1],
    "new_long_view": [None, 0, 0, 1],
    "new_cost": [None, 0.0, 1.0, 2.0],
    "seen_exposures_by_channel": [None, [0, 0, 0], [0, 0, 2], [0, 1, 2]],
    "seen_click_by_channel": [None, [0, 0, 0], [0, 0, 2], [0, 1, 2]],
    "seen_long_view_by_channel": [None, [0, 0, 0], [0, 0, 0], [0, 1, 0]],
    "new_exposures_by_channel": [None, [0, 0, 0], [0, 0, 2], [0, 1, 0]],
}


def encode(*windows: dict[str, Any], form: str = "binary", spec: FeatureSpec = SPEC) -> Encoded:
    return Encoder(spec, KUAIRAND, REWARD_FORMS[form].inputs).encode(
        synthetic.as_table(KUAIRAND, spec, list(windows), steps=4)
    )


def column(encoded: Encoded, name: str) -> list[float]:
    """A numeric input of the only window, by name."""
    names = Encoder(SPEC, KUAIRAND).input_names.numeric
    return encoded.batch().numeric_BLF[0, :, names.index(name)].tolist()


def test_categories_are_coded_by_the_vocabulary_and_padding_missing_and_unseen_are_zero() -> None:
    encoder = Encoder(SPEC, KUAIRAND)
    assert encoder.input_names.categorical == ("hour", "user_active_degree")
    hour_and_degree = encode(WINDOW).batch().categorical_BLK[0].T.tolist()
    assert hour_and_degree == [[0, 1, 0, 2], [0, 2, 2, 2]]
    unseen, missing = {**WINDOW, "user_active_degree": "new"}, {**WINDOW, "user_active_degree": None}
    assert encode(unseen, missing).profile_categorical_NK.tolist() == [[0], [0]]


def test_numbers_are_transformed_scaled_and_clipped_and_missing_ones_are_the_mean() -> None:
    encoded = encode(WINDOW)
    assert column(encoded, "gap_s") == pytest.approx([0.0, -0.5, 0.0, NUMERIC_LIMIT])
    assert column(encoded, "last_play_time_ms") == pytest.approx([0.0, 0.0, 2.0, -NUMERIC_LIMIT])
    assert column(encoded, "register_days") == pytest.approx([0.0, 2.0, 2.0, 2.0])
    assert column(encode({**WINDOW, "register_days": None}), "register_days") == [0.0] * 4


def test_history_inputs_count_what_is_known() -> None:
    encoded = encode(WINDOW)
    assert column(encoded, "log_seen_exposures") == pytest.approx([0, 0, np.log(3), np.log(4)])
    assert column(encoded, "log_new_click") == pytest.approx([0, 0, np.log(3), np.log(2)])
    a, b = PRIOR_GAINS, PRIOR_EXPOSURES
    assert column(encoded, "rate_click") == pytest.approx([0, a / b, (2 + a) / (2 + b), (3 + a) / (3 + b)])
    assert column(encoded, "log_seen_long") == pytest.approx([0, 0, np.log(3), np.log(3)])
    assert column(encoded, "share_mid") == pytest.approx([0, 0, 0, 1 / 3])
    assert column(encoded, "rate_long_view_mid") == pytest.approx([0, a / b, a / b, (1 + a) / (1 + b)])


def test_the_action_input_is_one_hot_for_one_exposure_and_a_square_root_for_several() -> None:
    assert encode(WINDOW).action_in_NLA[0] == pytest.approx(
        np.array([[0, 0, 0], [0, 0, 0], [0, 0, np.sqrt(2)], [0, 1, 0]])
    )


def test_the_reward_input_has_the_shape_of_the_reward_form() -> None:
    # (g - s w - low) / (high - low): 0 -> .25, 2 - .5 -> .625, 1 + 2 - 1 -> .75
    scaled = np.array([0.0, 0.25, 0.625, 0.75])
    root = np.sqrt(2)
    assert encode(WINDOW).reward_in_NLR[0] == pytest.approx(
        np.array([[0, 0, 0], [0, 0, scaled[1]], [root, 0, scaled[2]], [1, 1, scaled[3]]])
    )
    for form in ("continuous", "fused"):
        assert encode(WINDOW, form=form).reward_in_NLR[0, :, 0] == pytest.approx(scaled)
    assert encode(WINDOW, form="onehot").reward_in_NLR[0].tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_labels_contain_the_full_outcome_and_a_step_of_unknown_channel_is_not_a_label() -> None:
    encoded = encode(WINDOW)
    assert encoded.valid_NL.tolist() == [[False, True, True, True]]
    assert encoded.label_NL.tolist() == [[False, False, True, False]]
    assert encoded.action_NL.tolist() == [[-1, 2, 1, -1]]
    assert encoded.gains_NLG[0].tolist() == [[0, 0], [0, 0], [1, 1], [1, 0]]
    assert encoded.reward_NL[0] == pytest.approx([0.0, 0.25, 0.75, 0.0])  # the last reward is clipped


def test_a_channel_that_the_spec_does_not_know_hides_the_action_and_not_the_gains() -> None:
    encoded = encode({**WINDOW, "channel": [None, "long", "4k", "mid"]})
    assert encoded.label_NL.tolist() == [[False, False, True, True]]
    assert encoded.action_NL.tolist() == [[-1, 2, -1, 1]]
    assert encoded.gains_NLG[0, 2].tolist() == [1, 1]
    for no_channel in (None, ""):
        assert not encode({**WINDOW, "channel": [None, "long", no_channel, "mid"]}).label_NL[0, 2]


def test_inputs_do_not_depend_on_the_labels() -> None:
    other_labels = {
        **WINDOW,
        "channel": [None, "mid", "short", "long"],
        "click": [None, 1, 0, 0],
        "long_view": [None, 1, 0, 1],
        "cost": [None, 9.0, 0.0, 0.0],
        "is_label": [False, False, False, True],
    }
    inputs = Encoded._fields[:7]
    for form in REWARD_FORMS:
        window, changed = encode(WINDOW, form=form), encode(other_labels, form=form)
        for name in inputs:
            np.testing.assert_array_equal(getattr(window, name), getattr(changed, name), err_msg=name)
    assert (encode(WINDOW).action_NL != encode(other_labels).action_NL).any()


def test_values_at_padding_are_not_read() -> None:
    filled = {
        name: [values[3], *values[1:]] if isinstance(values, list) and name not in ("valid", "is_label") else values
        for name, values in WINDOW.items()
    }
    window, changed = encode(WINDOW), encode(filled)
    for name in (*Encoded._fields[:8], "reward_NL"):
        np.testing.assert_array_equal(getattr(window, name), getattr(changed, name), err_msg=name)


@pytest.mark.parametrize("name", ["kuairand", "criteo"])
@pytest.mark.parametrize("form", REWARD_FORMS)
def test_names_sizes_and_arrays_agree_and_all_numbers_are_finite(tmp_path: Any, name: str, form: str) -> None:
    lake, spec = synthetic.write_lake(tmp_path, name, users=10)
    encoder = Encoder(spec, get_dataset(name), REWARD_FORMS[form].inputs)
    table = synthetic.padded_windows(lake, get_dataset(name), spec, ["2022-04-11"])
    batch = encoder.encode(table).batch()
    sizes, names = encoder.sizes, encoder.input_names
    assert batch.categorical_BLK.shape[-1] == len(sizes.vocabulary) == len(names.categorical)
    assert batch.numeric_BLF.shape[-1] == sizes.numeric == len(names.numeric) == len(set(names.numeric))
    assert batch.reward_in_BLR.shape[-1] == sizes.reward_inputs == len(names.reward)
    assert batch.action_in_BLA.shape[-1] == sizes.actions == len(spec.channels)
    assert batch.gains_BLG.shape[-1] == sizes.gains
    assert batch.label_BL.any()
    for k, vocabulary in enumerate(sizes.vocabulary):
        assert 0 < batch.categorical_BLK[..., k].max() < vocabulary
    for tensor in (batch.numeric_BLF, batch.action_in_BLA, batch.reward_in_BLR, batch.reward_BL):
        assert tensor.isfinite().all()


def test_a_slice_a_record_batch_and_chunks_encode_like_the_whole_table(synthetic_lake: Any) -> None:
    lake, spec = synthetic_lake
    encoder = Encoder(spec, KUAIRAND)
    table = synthetic.padded_windows(lake, KUAIRAND, spec, ["2022-04-11"])
    rows = encoder.encode(table).take(slice(3, 8))
    one_chunk = table.combine_chunks()
    chunked = pa.concat_tables([one_chunk.slice(3, 2), one_chunk.slice(5, 3)])
    for part in (one_chunk.slice(3, 5), chunked, one_chunk.slice(3, 5).to_batches()[0]):
        for name, encoded, expected in zip(Encoded._fields, encoder.encode(part), rows, strict=True):
            np.testing.assert_array_equal(encoded, expected, err_msg=name)


def test_a_table_without_rows_encodes_to_no_windows() -> None:
    encoded = encode()
    assert len(encoded.valid_NL) == 0
    sizes = Encoder(SPEC, KUAIRAND).sizes
    assert encoded.batch().numeric_BLF.shape[-1] == sizes.numeric
    assert encoded.batch().categorical_BLK.shape[-1] == len(sizes.vocabulary)


def test_a_spec_without_kept_features_encodes() -> None:
    encoded = encode(WINDOW, spec=replace(SPEC, features=()))
    assert encoded.batch().categorical_BLK.shape == (1, 4, 0)


def test_a_table_or_spec_that_does_not_fit_is_an_error_of_one_line() -> None:
    encoder = Encoder(SPEC, KUAIRAND)
    table = synthetic.as_table(KUAIRAND, SPEC, [WINDOW], steps=4)
    with pytest.raises(UserError, match="lack the column gap_s"):
        encoder.encode(table.drop_columns("gap_s"))
    with pytest.raises(UserError, match="number of channels"):
        encode({**WINDOW, "seen_exposures_by_channel": [None, [0, 0], [0, 0], [0, 0]]})
    with pytest.raises(UserError, match="hour: not as many entries"):
        encode({**WINDOW, "hour": [7, 8, 9]})
    with pytest.raises(UserError, match="one length"):
        encode(WINDOW, {**WINDOW, "valid": [True]})
    with pytest.raises(UserError, match="a window without hour"):
        encode(WINDOW, {**WINDOW, "hour": None})
    with pytest.raises(UserError, match="the feature spec is for kuairand"):
        Encoder(SPEC, get_dataset("criteo"))
    with pytest.raises(UserError, match="the same reward"):
        Encoder(replace(SPEC, reward=RewardScale(0.5, 1.0, 1.0)), KUAIRAND)
