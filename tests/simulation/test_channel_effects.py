"""The measurement of policies where the truth is known: a small world, and the lines of its table."""

import json
import sys
from functools import cache

import pytest

from schemas.basis import BASES
from simulation import channel_effects
from simulation.channel_effects import as_row, policy_value

USERS = 240


@cache
def measured(effect: str) -> dict:
    return policy_value(effect, USERS, 0)


@pytest.mark.slow
@pytest.mark.parametrize("effect", ["none", "strong"])
def test_values_are_true_click_probabilities_of_the_decided_basis(effect):
    result = measured(effect)
    assert result["basis"] in BASES
    assert result["published"] == result[result["basis"]]
    for basis in BASES:
        assert 0 < result[basis] <= result["oracle"] + 1e-12
    assert result["constant"] <= result["best_constant"] + 1e-12
    assert len(result["shrinkage"]) == 2


@pytest.mark.slow
def test_only_a_personal_effect_lets_the_oracle_beat_the_best_constant():
    none, strong = measured("none"), measured("strong")
    assert none["oracle"] == pytest.approx(none["best_constant"], abs=1e-9)
    assert strong["oracle"] > strong["best_constant"] + 0.1


def test_a_line_relates_the_published_value_to_the_best_constant_and_to_the_oracle():
    result = {
        "effect": "strong", "seed": 3, "basis": "value", "published": 0.6, "best_constant": 0.4, "oracle": 0.8,
        "shrinkage": [0.25, 0.5],
    }  # fmt: skip
    assert as_row(result) == (
        "strong  seed 3  value     published 0.6000  best constant 0.4000 (+50.00%)  oracle 0.8000 (50% of the way)  "
        "lambda 0.25, 0.50"
    )
    assert "(0% of the way)" in as_row(result | {"published": 0.4, "oracle": 0.4})  # no effect to find


def test_the_command_measures_the_chosen_effects(monkeypatch, capsys, tmp_path):
    calls = []

    def measure(effect, users, seed):
        calls.append((effect, users, seed))
        return {"effect": effect, "seed": seed, "basis": "constant", "published": 0.4, "best_constant": 0.4,
                "oracle": 0.4, "shrinkage": [0.0]}  # fmt: skip

    monkeypatch.setattr(channel_effects, "policy_value", measure)
    out = tmp_path / "effects.json"
    arguments = ["--users", "50", "--seeds", "2", "--effects", "none", "strong", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["channel_effects", *arguments])
    channel_effects.main()
    assert calls == [("none", 50, 0), ("none", 50, 1), ("strong", 50, 0), ("strong", 50, 1)]
    assert len(capsys.readouterr().out.splitlines()) == len(json.loads(out.read_text())) == 4
