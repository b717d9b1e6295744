"""Journeys that are folded day by day are the journeys built from all days, whenever rows arrive: the jobs themselves.

EXAMPLES in the environment: how many random logs (each takes about ten small Spark jobs).
"""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from in_process import Jobs
from raw_logs import header
from shop import SHOP

import schemas.dataset
from lakehouse.lake import Lake
from schemas.errors import EXIT_NOT_YET, EXIT_NOTHING_TO_DO

DAYS = ["2024-05-01", "2024-05-02", "2024-05-03", "2024-05-04"]
EXAMPLES = int(os.environ.get("EXAMPLES", "4"))


@st.composite
def rows(draw) -> str:
    """A newsletter of any day; few customers and hours, so that times tie and rows come twice."""
    day, hour = draw(st.sampled_from(DAYS)), draw(st.integers(0, 21))
    customer, medium = draw(st.sampled_from("ab")), draw(st.sampled_from(["mail", "sms", "push"]))
    bought = draw(st.sampled_from(["", "", *(f"{later}T23:30:00Z" for later in DAYS if later >= day)]))
    return f"{customer};{day}T{hour:02}:00:00Z;{medium};0.25;{int(bool(bought))};{bought};"


# Rows that arrive together, of any days, and the day whose run is the first to see them.
deliveries = st.lists(
    st.tuples(st.lists(rows(), min_size=1, max_size=12), st.sampled_from(DAYS)), min_size=2, max_size=3
)


@pytest.mark.slow
@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate),
          suppress_health_check=list(HealthCheck))  # fmt: skip
@given(arriving=deliveries)
def test_fold_equals_rebuild_whatever_arrives_when(spark, arriving):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(schemas.dataset, "_registry", lambda: {"shop": SHOP})
        folded = Jobs(spark, Lake(Path(folder) / "folded"), "shop", patch)
        raw = Path(folder) / "raw"
        raw.mkdir()
        for k, (text, day) in enumerate(arriving):
            (raw / f"sent-{k}.txt").write_text("\n".join([header(SHOP.log), *text]) + "\n")
            run_day(folded, raw, day)
        last = max(row.split(";")[1][:10] for text, _ in arriving for row in text)
        for day in (d for d in DAYS if d <= last):
            run_day(folded, raw, day)

        rebuilt = Jobs(spark, Lake(Path(folder) / "rebuilt"), "shop", patch)
        run_day(rebuilt, raw, last)
        # One run has made the days since the first exposure, with no earlier journeys to start a fold from.
        assert rebuilt.lake.days("journeys", "shop") == rebuilt.lake.days("exposures", "shop")
        actual, expected = (jobs.lake.manifests("shop", ["journeys"])["journeys"] for jobs in (folded, rebuilt))
        event(f"{len(expected)} days, {expected[last].rows} users changed")
        assert actual == expected


def run_day(jobs: Jobs, raw: Path, day: str) -> None:
    if jobs.run("build_exposures", "--raw", str(raw), "--up-to", day) not in (EXIT_NOTHING_TO_DO, EXIT_NOT_YET):
        jobs.ok("build_journeys", "--day", day)
