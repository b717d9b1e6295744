"""docker/: what a container engine would refuse, or let through, found without one.

That the services work, with these very commands, settings and health checks, is shown by `make cluster-test`.
"""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from compose import FILE, ROOT, Cluster, MissingVariable, fill_in, image_environment, read_env_file, read_services

GPU_FILE = ROOT / "docker" / "compose.gpu.yaml"
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
SECRETS = {
    "POSTGRES_PASSWORD", "REDIS_PASSWORD", "AIRFLOW_JWT_SECRET", "AIRFLOW_SECRET_KEY", "AIRFLOW_FERNET_KEY",
    "AIRFLOW_ADMIN_PASSWORD",
}  # fmt: skip
FOLDERS = {"LAKE": "/data/lake", "RAW": "/data/raw"}
DEPLOY = (ROOT / "docs" / "deploy.md").read_text()


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    subprocess.run([ROOT / "docker" / "make-env.sh", tmp_path / ".env"], check=True)
    return read_env_file(tmp_path / ".env") | FOLDERS


def test_the_topology_is_whole(variables):
    services = read_services(variables)
    assert set(services) == {
        "postgres", "redis", "airflow-init", "airflow-api", "airflow-scheduler", "airflow-dag-processor",
        "airflow-triggerer", "worker", "worker-gpu", "spark-master", "spark-worker", "mlflow",
    }  # fmt: skip
    assert services["spark-worker"].replicas == 2
    for name, service in services.items():
        assert bool(service.health) == (name != "airflow-init"), name
        assert service.restart == ("no" if name == "airflow-init" else "unless-stopped")
        for other, condition in service.needs.items():
            # Compose waits for ever for the health of a service that has no check.
            assert condition == ("service_healthy" if services[other].health else "service_completed_successfully")


def test_no_secret_has_a_default_or_stands_in_a_file(variables):
    asked = dict(re.findall(r"\$\{(\w+):\?([^}]+)\}", FILE.read_text()))
    assert set(asked) == SECRETS | set(FOLDERS)
    for name in asked:
        assert not re.search(rf"\$\{{{name}(:?-|\}})", FILE.read_text()), f"{name} has a default"
        without = {other: value for other, value in variables.items() if other != name}
        with pytest.raises(MissingVariable, match=f"{name}: {re.escape(asked[name])}"):
            read_services(without)
    # A word is secret by its name; each one's value comes from a variable that must be set.
    raw = yaml.safe_load(FILE.read_text())["services"]
    for name, service in raw.items():
        settings = dict(service.get("environment", {}))
        for file in service.get("env_file", []):
            settings |= read_env_file(FILE.parent / file)
        for key, value in settings.items():
            if re.search(r"PASSWORD$|SECRET|FERNET|AUTH$|CONN$|BACKEND$|BROKER_URL", key):
                assert re.search(r"\$\{\w+:\?", str(value)), f"{name}: {key}"
    # Nor on a command line, which all can read.
    for name, service in read_services(variables).items():
        for secret in SECRETS:
            assert variables[secret] not in " ".join([*service.command, *service.health]), name


def test_only_user_interfaces_are_published_and_on_this_machine(variables):
    services = read_services(variables)
    published = {name: service.ports for name, service in services.items() if service.ports}
    assert published == {
        "airflow-api": ["127.0.0.1:8080:8080"], "spark-master": ["127.0.0.1:8081:8081"],
        "mlflow": ["127.0.0.1:5000:5000"],
    }  # fmt: skip
    for service in services.values():
        assert {port.rpartition(":")[2] for port in service.ports} <= set(service.expose)
    text = FILE.read_text()
    assert "network_mode" not in text
    assert "privileged" not in text
    for name in ("airflow-scheduler", "airflow-triggerer", "worker", "worker-gpu"):
        assert "--skip-serve-logs" in services[name].command


def test_every_address_is_a_service_that_exposes_the_port(variables):
    services = read_services(variables)
    told = " ".join(
        f"{' '.join(s.command + s.health)} {' '.join(map(str, s.environment.values()))}" for s in services.values()
    )
    for name, port in re.findall(r"[@/]([a-z][a-z-]+):(\d+)(?![\w@])", told):
        if name != "localhost":
            assert port in services[name].expose, f"{name}:{port}"


def test_data_lies_under_one_path_wherever_it_is_read(variables):
    services = read_services(variables)
    for name in ("worker", "worker-gpu", "spark-worker", "airflow-init"):
        assert ("/data/lake", "/lake") in services[name].volumes
        assert ("/data/raw", "/raw") in services[name].volumes
    settings = services["worker"].environment
    assert settings["MTORL_LAKE"] == "/lake"
    assert {settings[f"MTORL_RAW_{name.upper()}"] for name in ("kuairand", "criteo")} == {
        "/raw/kuairand",
        "/raw/criteo",
    }
    # Airflow's processes agree on every setting; the init service has more.
    ours = [s.environment for n, s in services.items() if n.startswith(("airflow", "worker"))]
    assert all(settings.items() <= other.items() for other in ours)


def test_settings_that_hold_everywhere_are_read_from_one_file(variables):
    everywhere = read_env_file(ROOT / "bin" / "settings.env")
    assert everywhere == {
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "GX_ANALYTICS_ENABLED": "False",
    }  # fmt: skip
    services = read_services(variables)
    for name in ("worker", "airflow-scheduler", "mlflow"):
        assert everywhere.items() <= services[name].environment.items()
    script = "source bin/common.sh; step_environment; env"
    told = subprocess.run(["bash", "-c", script], cwd=ROOT, text=True, capture_output=True, check=True)
    assert {f"{name}={value}" for name, value in everywhere.items()} <= set(told.stdout.splitlines())
    assert not set(everywhere) & set(read_env_file(ROOT / "docker" / "airflow.env"))


def test_secrets_are_made_once_for_their_owner_alone(tmp_path):
    made = [tmp_path / "one", tmp_path / "other"]
    for file in made:
        subprocess.run([ROOT / "docker" / "make-env.sh", file], check=True)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    one, other = map(read_env_file, made)
    assert set(one) == SECRETS
    assert not set(one.values()) & set(other.values())
    assert min(map(len, one.values())) >= 44
    again = subprocess.run([ROOT / "docker" / "make-env.sh", made[0]], text=True, capture_output=True, check=False)
    assert again.returncode == 2
    assert again.stderr.startswith("error: ")
    assert read_env_file(made[0]) == one


def test_the_image_has_what_its_services_name(variables):
    copied = re.findall(r"^COPY (?:--\S+ )?(.+) \S+$", DOCKERFILE, re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    for source in sources:
        assert (ROOT / source).exists(), source
    # All that a task or a service imports or reads.
    folders = {"schemas", "lakehouse", "features", "jobs", "mtorl_model", "dags", "docker"}
    assert folders | {"requirements.txt", "requirements-cluster.txt"} <= sources
    python = re.search(r"^FROM python:(\d+\.\d+)", DOCKERFILE, re.MULTILINE)[1]
    environment = image_environment()
    assert f"/python{python}/" in environment["SPARK_HOME"]
    if sys.version_info[:2] == tuple(map(int, python.split("."))):
        assert Path(environment["SPARK_HOME"].replace("/opt/mtorl/.venv", sys.prefix)).is_dir()
    installed = re.search(r"apt-get install -y --no-install-recommends (.+) \\", DOCKERFILE)[1].split()
    # mtorl_model.training.loop compiles the model where there is a compiler.
    assert {"gcc", "libc6-dev"} <= set(installed)
    for service in read_services(variables).values():
        for word in (*service.command, *service.health):
            if word.startswith("docker/"):
                assert os.access(ROOT / word, os.X_OK) or word.endswith(".py")
                assert (ROOT / word).is_file()
        if service.image.startswith("mtorl:"):
            for _, inside in service.volumes:
                assert re.search(rf"(?<![\w.]){re.escape(inside)}(?!\w)", DOCKERFILE), f"{inside} is not the user's"


def test_one_service_builds_the_image_that_all_of_ours_take(variables):
    """Several builders of one name fail where the image is not there yet: it "already exists" for all but one."""
    told = yaml.safe_load(FILE.read_text())["services"]
    assert [name for name in told if "build" in told[name]] == ["airflow-init"]
    ours = {name: s for name, s in read_services(variables).items() if not s.image.startswith(("postgres:", "redis:"))}
    assert {service.image for service in ours.values()} == {"mtorl:latest"}
    assert {told[name]["pull_policy"] for name in ours} == {"never"}  # else it is looked for on Docker Hub first
    assert len(ours) == 10


def test_what_the_guide_names_reaches_the_containers(variables):
    sizing = DEPLOY[DEPLOY.index("## Sizing") : DEPLOY.index("## Spark elsewhere")]
    names = set(re.findall(r"`((?:SPARK|MTORL|WORKER)_[A-Z_]+)`", sizing)) - {"SPARK_CONF_DIR"}  # it is mounted
    assert {"SPARK_WORKER_CORES", "MTORL_SHUFFLE_PARTITIONS", "WORKER_SLOTS"} < names
    for name in names:
        assert f"${{{name}:-" in FILE.read_text(), name
    # What it shows of a file of one's own, on top of this one.
    (shown,) = re.findall(r"```yaml\n(.+?)```", DEPLOY, re.DOTALL)
    services = read_services(variables)
    for name, told in yaml.safe_load(shown)["services"].items():
        spark = json.loads(told["environment"]["AIRFLOW_CONN_SPARK"])
        assert spark["conn_type"] == json.loads(services[name].environment["AIRFLOW_CONN_SPARK"])["conn_type"]
        assert "default" in services[name].command  # the queue of the Spark drivers


def test_the_gpu_file_gives_the_gpus_to_the_worker_of_their_queue(variables):
    ((name, told),) = yaml.safe_load(GPU_FILE.read_text())["services"].items()
    command = read_services(variables)[name].command
    assert command[command.index("--queues") + 1] == "gpu"
    assert set(told) == {"shm_size", "deploy"}  # all that it adds to the service
    # An engine refuses devices without capabilities, and gives none of its own accord.
    ((what, reserved),) = told["deploy"]["resources"].items()
    assert (what, list(reserved)) == ("reservations", ["devices"])
    assert reserved["devices"] == [{"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}]
    assert "-f docker/compose.gpu.yaml" in GPU_FILE.read_text()
    assert "-f docker/compose.gpu.yaml" in DEPLOY


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("useradd"), reason="adds users as Debian's root does")
@pytest.mark.parametrize(("uid", "gid"), [(1000, 1000), (0, 0), (501, 20)])
def test_the_image_takes_any_owner_of_the_lake(tmp_path, uid, gid):
    """The Dockerfile's own commands, on the users of a fresh Debian."""
    (tmp_path / "etc").mkdir()
    for file, line in {"passwd": "root:x:0:0:root:/root:/bin/bash", "group": "root:x:0:\ndialout:x:20:"}.items():
        (tmp_path / "etc" / file).write_text(line + "\n")
    adding = re.findall(r"\b((?:group|user)add) (.*) \\$", DOCKERFILE, re.MULTILINE)
    assert [program for program, _ in adding] == ["groupadd", "useradd"]
    for program, rest in adding:
        words = [word.replace('"$UID"', str(uid)).replace('"$GID"', str(gid)) for word in rest.split()]
        done = subprocess.run([program, "--prefix", tmp_path, *words], text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
    assert re.search(rf"^mtorl:.:{uid}:{gid}:", (tmp_path / "etc" / "passwd").read_text(), re.MULTILINE)
    assert (tmp_path / "home" / "mtorl").is_dir()


def test_as_processes_of_one_machine_no_two_services_meet_by_chance(variables, tmp_path):
    cluster = Cluster(tmp_path, variables)
    ports = [port for container in cluster.containers for port in container.ports.values()]
    assert len(set(ports)) == len(ports) == 8
    names = "|".join(cluster.services)
    for container in cluster.containers:
        told = " ".join([*map(container.local, container.service.command + container.service.health),
                         *container.environment().values()])  # fmt: skip
        assert not re.search(rf"0\.0\.0\.0|/opt/|[@/]({names}):\d+", told), container.home.name
        others = {port for c in cluster.containers if c.service.name != container.service.name
                  for port in c.ports.values()}  # fmt: skip
        for port in map(int, re.findall(r"127\.0\.0\.1:(\d+)", told)):
            assert port in others | set(container.ports.values())
    (worker,) = cluster.of("worker")
    (redis,) = cluster.of("redis")
    assert worker.environment()["AIRFLOW__CELERY__BROKER_URL"].endswith(f"@127.0.0.1:{redis.ports['6379']}/0")
    assert worker.environment()["MTORL_LAKE"] == "/data/lake"


@pytest.mark.parametrize(
    ("text", "filled"),
    [("${A}", "1"), ("${B:-2}", "2"), ("${A:-2}", "1"), ("${B:-}", ""), ("$${A}", "${A}"), ("a$$HOME", "a$HOME")],
)
def test_variables_are_filled_in_as_compose_does(text, filled):
    assert fill_in({"x": [text]}, {"A": "1", "B": ""}) == {"x": [filled]}


def test_packages_of_a_cluster_are_those_that_are_installed_here():
    from importlib.metadata import PackageNotFoundError, version

    pins = re.findall(r"^([\w-]+)==(\S+)", (ROOT / "requirements-cluster.txt").read_text(), re.MULTILINE)
    base = re.findall(r"^([\w-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert not {name for name, _ in pins} & set(base)
    try:
        assert {name: version(name) for name, _ in pins} == dict(pins)
    except PackageNotFoundError as missing:
        pytest.skip(f"not installed here: {missing}")
