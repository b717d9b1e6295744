"""The study of UnifiedRL on a small store: its variants, its text, and the resumption of a stopped study."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from candidate_rows import store_of

from mtorl_model.data.candidates.encoding import CandidateEncoder, NumberScale
from mtorl_model.data.candidates.parts import Parts
from mtorl_model.data.initial_policy import InitialPolicy
from mtorl_model.evaluation.fusion_metrics import mtf_gauc
from mtorl_model.methods.unified_rl.chain.config import PRESETS
from mtorl_model.methods.unified_rl.method import UnifiedRL
from mtorl_model.studies.fusion.study import as_text, compare, trained
from mtorl_model.studies.results import _fusion

CONFIG = PRESETS["small"].changed({"gain_iterations": 10, "steps": 20, "rounds": 1, "critics": 2})
ENCODING = CandidateEncoder("kuairand", {"tag": ("a",)}, {"number": NumberScale(log=False, mean=0.0, std=1.0)})


def sessions(users: int, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    user_N = np.repeat(np.arange(users), 8)
    x_NF = rng.normal(size=(len(user_N), 3))
    objectives_NI = np.column_stack([x_NF + rng.normal(size=x_NF.shape) > 0.5, rng.random(len(x_NF)) < 0.1])
    store = store_of(
        user_N, rng.integers(0, 2, (len(user_N), 1)), x_NF, np.zeros((len(user_N), 2)), (2,), objectives_NI
    )
    return replace(store, objective_names=("long_view", "click", "like", "social"))


@pytest.fixture(scope="module")
def parts() -> Parts:
    return Parts(sessions(200, 0), sessions(60, 1), sessions(80, 2), "no user is in two parts")


@pytest.fixture
def untrained(synthetic_lake: Any) -> UnifiedRL:
    spec = synthetic_lake[1]
    even = tuple([1 / len(spec.channels)] * len(spec.channels))
    model = UnifiedRL(CONFIG, spec, InitialPolicy(spec.channels, even, dict.fromkeys(spec.gains, 0.5), even))
    model.encoding = ENCODING.to_json()
    return model


def test_a_trained_seed_is_read_again_unless_its_identity_is_another(parts, untrained, tmp_path, monkeypatch):
    model = trained(tmp_path, "one", parts, untrained)
    monkeypatch.setattr(UnifiedRL, "fit", lambda *_: pytest.fail("trained again"))
    same_model = trained(tmp_path, "one", parts, untrained)
    np.testing.assert_array_equal(same_model.predict(parts.test).fused.score_X, model.predict(parts.test).fused.score_X)
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        trained(tmp_path, "two", parts, untrained)


def test_every_variant_has_its_figures_and_the_page_its_table(parts, untrained, tmp_path):
    model = trained(tmp_path, "one", parts, untrained)
    result = compare([model], parts.test)
    variants = {row["variant"] for row in result["rows"]}
    singles = {f"{name} alone" for name in parts.test.objective_names}
    assert variants == {"unified_rl", "static weights", "equal weights", *singles}
    rows = {(row["variant"], row["figure"]): row for row in result["rows"]}
    single_row = rows["long_view alone", "long_view GAUC"]
    assert single_row["value"] > 0.6 > rows["click alone", "long_view GAUC"]["value"]
    assert rows["static weights", "mtf_gauc"]["minus_static"]["value"] == 0.0
    predicted_N = model.predict(parts.test).fused.objectives_XI[:, 0]
    expected = mtf_gauc(parts.test, predicted_N, model.weight_I).figure_R[0]
    assert rows["long_view alone", "mtf_gauc"]["value"] == pytest.approx(expected)
    assert "unified_rl" in as_text(result)
    study = {
        **result, "seeds": 1, "days": ["2022-04-22", "2022-04-28"],
        "protocol": "unseen-users", "command": "make study STUDY=fusion",
        "weights": {"long_view": 1.0}, "off_policy": {"identified": False, "why": "no propensities"},
    }  # fmt: skip
    (tmp_path / "fusion.json").write_text(json.dumps(study))
    page = "\n".join(_fusion(json.loads((tmp_path / "fusion.json").read_text())))
    assert "| unified rl |" in page
    assert "not identified: no propensities" in page
