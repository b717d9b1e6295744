"""The connections that docs/deploy.md shows, as the spark-submit command that Airflow makes of them."""

import re
from pathlib import Path

import pytest
from airflow.providers.apache.spark.hooks import spark_submit

ROOT = Path(__file__).resolve().parent.parent.parent
SHOWN = re.findall(r"^AIRFLOW_CONN_SPARK='(.*?)'$", (ROOT / "docs" / "deploy.md").read_text(), re.MULTILINE | re.DOTALL)


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


@pytest.mark.parametrize(
    ("connection", "master", "more"),
    [
        (SHOWN[0], "yarn", ["--queue", "ads"]),
        (SHOWN[1], "k8s://https://10.0.0.1:6443", ["--conf", "spark.kubernetes.namespace=mtorl"]),
        ('{"conn_type": "spark", "host": "spark://spark-master:7077"}', "spark://spark-master:7077", []),
    ],
    ids=["yarn", "kubernetes", "standalone"],
)
def test_a_connection_of_the_document_is_what_it_says(connection, master, more, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_SPARK", connection)
    # The client that a Kubernetes master asks for is another package's; in client mode nothing calls it.
    monkeypatch.setattr(spark_submit, "kube_client", object(), raising=False)
    command = spark_submit.SparkSubmitHook(conn_id="spark")._build_spark_submit_command("job.py")
    assert option(command, "--master") == master
    # The driver's exit status is the task's: it is lost where the driver runs elsewhere.
    assert "--deploy-mode" not in command or option(command, "--deploy-mode") == "client"
    assert " ".join(more) in " ".join(command)


def test_the_document_shows_two_connections():
    assert len(SHOWN) == 2
