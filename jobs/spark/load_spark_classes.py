"""One small Spark job that does what ours do, so that Java meets the classes they need (bin/setup.sh keeps those)."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from pyspark.sql import functions as F
from pyspark.sql.window import Window

from jobs.spark.session import spark_session


def unchanged(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield from batches


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, spark_session("the classes of a job") as spark:
        Path(folder, "log.csv").write_text("user,time,x\n" + "".join(f"{n % 5},{n},{n / 7}\n" for n in range(100)))
        raw = spark.read.csv(f"{folder}/log.csv", header=True)
        rows = raw.select(
            "user", F.col("time").try_cast("bigint").alias("time"), F.col("x").try_cast("double").alias("x")
        )
        newest = F.row_number().over(Window.partitionBy("user").orderBy(F.desc("time")))
        rows = rows.withColumn("place", newest).where("place < 20").persist()
        users = rows.groupBy("user").agg(F.sort_array(F.collect_list(F.struct("time", "x"))).alias("steps"))
        joined = rows.join(F.broadcast(users), "user").repartition(4, "user").sortWithinPartitions("user", "time")
        joined.mapInArrow(unchanged, joined.schema).write.parquet(f"{folder}/rows")
        spark.read.parquet(f"{folder}/rows").groupBy("user").agg(F.count("*"), F.max("x")).collect()


if __name__ == "__main__":
    main()
