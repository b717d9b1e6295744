"""Evaluate rules on a data frame with Great Expectations, in memory: nothing is written and no connection is opened."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any
from unittest.mock import patch

import pandas as pd

from schemas.contract import Expectation
from schemas.lean_imports import hide_modules, load_lazily

os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when a context is made

# An audit needs no Spark, no database, no charts and no statistical tests. Importing them would take 3 of 4 CPU
# seconds, in every audit of a day. Where Spark is already loaded, Great Expectations looks at it, and Spark looks for
# google's packages in turn.
with (
    hide_modules(*(("sqlalchemy",) if "pyspark" in sys.modules else ("pyspark", "sqlalchemy", "google"))),
    load_lazily("altair", "scipy.stats"),
):
    import great_expectations as gx
from great_expectations.core.batch_definition import BatchDefinition
from great_expectations.expectations.expectation import Expectation as GxExpectation
from great_expectations.expectations.expectation_configuration import ExpectationConfiguration


def validate(frame: pd.DataFrame, expectations: Sequence[Expectation], result_format: str, examples: int) -> list[Any]:
    """Great Expectations' results, in the order of the expectations.

    result_format: a name of Great Expectations. examples: values that break a rule, as many as a result names.

    Raises RuntimeError if an expectation cannot be computed: then the contract is wrong, not the data.
    """
    if not expectations:
        return []
    configurations = [
        ExpectationConfiguration(type=e.rule, kwargs=dict(e.kwargs), severity=e.severity.value, meta={"position": k})
        for k, e in enumerate(expectations)
    ]
    batch = _batch_definition().get_batch({"dataframe": frame})
    suite = gx.ExpectationSuite("audit", expectations=configurations)
    with _configurations_computed_once():
        results = batch.validate(
            suite, result_format={"result_format": result_format, "partial_unexpected_count": examples}
        ).results
    for result in results:
        if message := _exception_message(result.exception_info):
            raise RuntimeError(f"cannot compute {result.expectation_config.type}: {message}")
    return sorted(results, key=lambda result: result.expectation_config.meta["position"])


@contextmanager
def _configurations_computed_once() -> Iterator[None]:
    """Great Expectations computes the configuration of an expectation again whenever it reads one of its arguments.

    That happens hundreds of times for each rule and takes a third of a validation. Inside the block each expectation
    computes it once, since none changes while it is validated.
    """
    compute = GxExpectation.configuration.fget
    computed: dict[int, tuple[GxExpectation, ExpectationConfiguration]] = {}  # keeps the objects, so ids are unique

    def configuration(expectation: GxExpectation) -> ExpectationConfiguration:
        if id(expectation) not in computed:
            computed[id(expectation)] = expectation, compute(expectation)
        return computed[id(expectation)][1]

    with patch.object(GxExpectation, "configuration", property(configuration)):
        yield


def _exception_message(info: dict[str, Any]) -> str:
    """The message of an exception inside Great Expectations, which nests them by metric; empty without an exception."""
    exceptions = [info] if "raised_exception" in info else list(info.values())
    return "; ".join(str(e["exception_message"]) for e in exceptions if e["raised_exception"])


@cache
def _batch_definition() -> BatchDefinition:
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    return (
        context.data_sources.add_pandas("audit")
        .add_dataframe_asset("frame")
        .add_batch_definition_whole_dataframe("all")
    )
