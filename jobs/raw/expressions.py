"""Finds the expression of a contract that Spark cannot analyse, for an error that names it."""

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import NullType, NumericType

from schemas.contract import quoted_name
from schemas.dataset import Dataset, RawFile
from schemas.errors import UserError

_CONDITIONS = ("refusal", "is_exposure")
_NUMBERS = ("exposed_at_ms", "cost", "propensity")


def explain_contract_fault(spark: SparkSession, dataset: Dataset, error: AnalysisException) -> UserError:
    """One line on the first expression of the contract that Spark refuses; error: that of all of them together."""
    dtypes = {d.column.name: d.column.dtype for d in (dataset.user_id, *dataset.columns)}
    try:
        views = _empty_views(spark, dataset)
    except AnalysisException as view_error:
        return UserError(f"dataset {dataset.name}, the SELECT of a lookup: {_sentence(view_error)}")
    for name, spark_sql, names in dataset.expressions:
        frame = views[names[0]]
        for view in names[1:]:
            frame = frame.crossJoin(views[view])
        try:
            frame.select(_as_used(name, F.expr(spark_sql), dtypes))
        except AnalysisException as expression_error:
            return UserError(f"dataset {dataset.name}, {name}: {_sentence(expression_error)} in: {spark_sql}")
    return UserError(f"dataset {dataset.name}: {_sentence(error)}")


def require_numbers(frame: DataFrame, dataset: Dataset) -> None:
    """Raises UserError if an expression that must be a number is a text: Spark would stop at the first other text."""
    for name in _NUMBERS:
        (field,) = frame.select(F.expr(getattr(dataset, name))).schema.fields
        if not isinstance(field.dataType, NumericType | NullType):
            kind = field.dataType.simpleString()
            raise UserError(f"dataset {dataset.name}, {name}: it must be a number, and is a {kind}: use try_cast")


def _empty_views(spark: SparkSession, dataset: Dataset) -> dict[str, DataFrame]:
    views = {file.view: _empty(spark, file) for file in dataset.raw_files}
    for lookup in dataset.lookups:
        if lookup.spark_sql:
            views[lookup.file.view] = spark.sql(lookup.spark_sql, **{lookup.file.view: views[lookup.file.view]})
    return {view: frame.alias(view) for view, frame in views.items()}


def _empty(spark: SparkSession, file: RawFile) -> DataFrame:
    return spark.createDataFrame([], ", ".join(f"{quoted_name(column.name)} {column.dtype}" for column in file.columns))


def _as_used(name: str, value: Column, dtypes: dict[str, str]) -> Column:
    if name.startswith(_CONDITIONS) or name.endswith("condition"):
        return F.when(value, 1)
    if name in _NUMBERS or name.endswith("at_ms"):
        return value.between(0, 1)
    return value.cast(dtypes.get(name, "string"))


def _sentence(error: AnalysisException) -> str:
    return " ".join(str(error).split("SQLSTATE")[0].split("\n\n")[0].split())[:400]
