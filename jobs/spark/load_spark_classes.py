"""One small Spark job that does what ours do, so that Java meets the classes they need (bin/setup.sh keeps those)."""

from jobs.spark.context import spark_context


def main() -> None:
    with spark_context("the classes of a job") as spark:
        numbers = spark.parallelize(range(100), 2).map(lambda number: (number % 8, b"block" * number))
        shared = spark.broadcast(b"lookup")
        sent = numbers.partitionBy(8, int).mapPartitionsWithIndex(lambda _, pairs: [len(shared.value) for _ in pairs])
        spark.runJob(sent, list, range(8))


if __name__ == "__main__":
    main()
