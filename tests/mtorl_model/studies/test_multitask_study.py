"""The study of RMTL's table 1 on a small store; its verdict and its text on made-up figures."""

import numpy as np
import pytest
from candidate_rows import store_of

from mtorl_model.data.candidates.parts import Parts
from mtorl_model.methods.common.multitask import NetworkConfig
from mtorl_model.methods.rmtl.config import ActorTrainConfig, CriticConfig, RMTLConfig
from mtorl_model.methods.rmtl.member import Checkpoints, Training
from mtorl_model.studies.multitask import study
from mtorl_model.studies.multitask.study import compared_with, helps, run_study
from mtorl_model.studies.multitask.tables import as_markdown

CONFIG = RMTLConfig(
    NetworkConfig(embedding=2, bottom=(4,), tower=(), experts=2, batch_norm=False, dropout=0.0),
    CriticConfig(critic_bottom=(4,), critic_tower=(), critic_epochs=1, action=2),
    ActorTrainConfig(batch_size=64, max_epochs=1, device="cpu"),
)


def made_up(sessions: int, seed: int):
    rng = np.random.default_rng(seed)
    session_N = np.repeat(np.arange(sessions), rng.integers(1, 4, sessions))
    x_NF = rng.normal(size=(len(session_N), 2))
    click_N = x_NF[:, 0] + rng.normal(size=len(x_NF)) > 0
    labels_NT = np.stack([click_N, click_N & (x_NF[:, 1] > 0)], axis=1)
    return store_of(session_N, rng.integers(0, 3, (len(x_NF), 1)), x_NF, labels_NT, (3,))


@pytest.mark.slow
def test_every_variant_has_figures_and_its_differences():
    parts = Parts(made_up(120, 0), made_up(40, 1), made_up(60, 2), "no user is in two parts")
    result = run_study(parts, CONFIG, seeds=2, networks=("single", "mmoe"))
    variants = {row["variant"] for row in result["rows"]}
    controls = {f"mmoe {name}" for name in ("critics", "retrained", "constant", "permuted", "return", "label", "value")}
    curve = {f"mmoe critics lambda {value}" for value in ("0.1", "0.3", "1", "2")}
    assert variants == {"boosting", "single", "mmoe", *controls, *curve}
    figures = {row["figure"] for row in result["rows"] if row["variant"] == "mmoe critics"}
    assert figures == {f"{t} {f}" for t in ("click", "click_long_view") for f in ("auc", "logloss", "s_logloss", "ece")}
    pairs = {(d["variant"], d["against"]) for d in result["differences"]}
    assert ("mmoe critics", "mmoe constant") in pairs
    assert ("mmoe", "boosting") in pairs
    assert result["rmtl_helps"].keys() == {"mmoe"}
    paper = {"mmoe": (0.7014, 0.6119, 0.6255, 0.7324, 0.5237, 0.5450)}
    texts = {"protocol": "unseen-users", "preset": "small", "sessions": "a visit", "command": "make study"}
    text = "\n".join(as_markdown({**result, **texts, "paper": paper}))
    assert "| 0.7324 |" in text
    assert "| mmoe critics minus mmoe constant | " in text
    assert "RMTL on mmoe: the weights do" in text


class KilledError(Exception):
    """Stands for the end of the process."""


@pytest.mark.slow
def test_a_killed_study_continues_and_further_seeds_use_its_trainings(monkeypatch, tmp_path):
    parts = Parts(made_up(120, 0), made_up(40, 1), made_up(60, 2), "no user is in two parts")
    checkpoints, trained = Checkpoints(tmp_path, "one"), []
    expected = run_study(parts, CONFIG, 2, ("single", "esmm"))
    retrain = Training.retrain

    def killed_at_the_third(training, member, critic):
        trained.append(critic.weighting)
        if len(trained) == 3:
            raise KilledError
        return retrain(training, member, critic)

    monkeypatch.setattr(Training, "retrain", killed_at_the_third)
    with pytest.raises(KilledError):
        run_study(parts, CONFIG, 1, ("single", "esmm"), checkpoints)
    run_study(parts, CONFIG, 1, ("single", "esmm"), checkpoints)
    weightings = ["critics", "constant", "permuted"]
    assert trained == [*weightings, "permuted"]
    monkeypatch.setattr(study, "boosting", None)  # it is not fitted again
    assert run_study(parts, CONFIG, 2, ("single", "esmm"), checkpoints) == expected
    assert trained[4:] == weightings  # of the second seed alone


def test_rmtl_is_compared_with_its_controls_and_a_network_with_boosting():
    assert compared_with("mmoe critics") == (
        "mmoe", "mmoe constant", "mmoe permuted", "mmoe retrained", "mmoe return",
    )  # fmt: skip
    assert compared_with("ple critics") == ("ple", "ple constant", "ple permuted")
    assert compared_with("mmoe critics", full_network=None) == ("mmoe", "mmoe constant", "mmoe permuted")
    assert compared_with("ple") == ("boosting",)
    assert compared_with("mmoe constant") == compared_with("boosting") == ()


def difference(control: str, figure: str, low: float, high: float) -> dict[str, object]:
    return {"variant": "mmoe critics", "against": f"mmoe {control}", "figure": figure, "low": low, "high": high}


BETTER = [difference(control, "click logloss", -0.02, -0.01) for control in ("constant", "permuted")]


def test_rmtl_helps_only_if_it_beats_both_controls_on_a_task():
    assert helps(BETTER, "mmoe critics")
    assert not helps([BETTER[0], difference("permuted", "click logloss", -0.01, 0.001)], "mmoe critics")
    assert not helps([*BETTER, difference("constant", "click_long_view logloss", 0.001, 0.01)], "mmoe critics")
    assert not helps([{**d, "low": None, "high": None} for d in BETTER], "mmoe critics")
    # Other figures and other comparisons do not count.
    assert not helps([difference("retrained", "click logloss", -0.02, -0.01)], "mmoe critics")
    assert not helps([{**d, "figure": "click s_logloss"} for d in BETTER], "mmoe critics")
