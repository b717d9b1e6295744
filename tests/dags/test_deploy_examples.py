"""The spark-submit commands that Airflow makes from the connections in docs/deploy.md."""

import re
from pathlib import Path

import pytest
from airflow.providers.apache.spark.hooks import spark_submit

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = re.findall(
    r"^AIRFLOW_CONN_SPARK='(.*?)'$", (ROOT / "docs" / "deploy.md").read_text(), re.MULTILINE | re.DOTALL
)


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


@pytest.mark.parametrize(
    ("connection", "master", "options"),
    [
        (EXAMPLES[0], "yarn", ["--queue", "ads"]),
        (EXAMPLES[1], "k8s://https://10.0.0.1:6443", ["--conf", "spark.kubernetes.namespace=mtorl"]),
        ('{"conn_type": "spark", "host": "spark://spark-master:7077"}', "spark://spark-master:7077", []),
    ],
    ids=["yarn", "kubernetes", "standalone"],
)
def test_a_connection_of_the_document_gives_its_command(connection, master, options, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_SPARK", connection)
    # A Kubernetes master requires a client from a package that is not installed. In client mode it is never called.
    monkeypatch.setattr(spark_submit, "kube_client", object(), raising=False)
    command = spark_submit.SparkSubmitHook(conn_id="spark")._build_spark_submit_command("job.py")
    assert option(command, "--master") == master
    # The exit status of the driver becomes that of the task. In cluster mode it would be lost.
    assert "--deploy-mode" not in command or option(command, "--deploy-mode") == "client"
    assert " ".join(options) in " ".join(command)


def test_the_document_shows_two_connections():
    assert len(EXAMPLES) == 2
