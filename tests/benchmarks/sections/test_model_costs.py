"""The sections of training, scoring and the GPU, from the figures that their programs print."""

import pytest
import torch

from benchmarks.measure import Cost
from benchmarks.sections import model_costs
from benchmarks.sections.model_costs import _cell
from schemas.errors import UserError


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_its_section_is_refused():
    with pytest.raises(UserError, match="ONLY=gpu needs a machine with a GPU"):
        model_costs.measure_gpu("make bench", 1)


def test_the_text_of_scoring_names_the_measured_rates(monkeypatch):
    def measure(words, _):
        users = int(words[words.index("--users") + 1])
        return Cost(2.0, 3.0, 2**30, 1, figures={"users": users, "users_per_second": users // 100})

    monkeypatch.setattr(model_costs, "measure", measure)
    section = model_costs.measure_scoring("make bench", 1)
    assert "Measured: 100 with 10,000 users, 1,000 with 100,000 users, 10,000 with 1,000,000 users, " in section.text
    assert [row[2] for row in section.rows[:3]] == ["100", "1,000", "10,000"]


def test_cells_show_the_median_and_the_range_of_numbers_and_the_text_of_others():
    assert _cell([1000, 3000, 2000]) == "2,000 [1,000, 3,000]"
    assert _cell([0.5, 0.5]) == "0.5"
    assert _cell(["bf16", "bf16"]) == "bf16"
    assert _cell([None]) == ""
