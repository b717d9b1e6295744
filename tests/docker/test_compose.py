"""docker/: mistakes that a container engine would refuse, or would not notice, found without an engine.

`make cluster-test` shows that the services work with these commands, settings and health checks.
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
from cluster import Cluster
from compose_file import FILE, ROOT, MissingVariable, fill_in, image_environment, read_env_file, read_services

GPU_FILE = ROOT / "docker" / "compose.gpu.yaml"
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
SECRETS = {
    "POSTGRES_PASSWORD", "REDIS_PASSWORD", "AIRFLOW_JWT_SECRET", "AIRFLOW_SECRET_KEY", "AIRFLOW_FERNET_KEY",
    "AIRFLOW_ADMIN_PASSWORD", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY",
}  # fmt: skip
STORE = {"AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
IN_STORE = ("worker", "worker-gpu", "spark-worker", "airflow-init", "airflow-scheduler", "mlflow")  # among others
DEPLOY = (ROOT / "docs" / "deploy.md").read_text()


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables that the file needs: secrets as make-env.sh makes them."""
    file = tmp_path_factory.mktemp("secrets") / ".env"
    subprocess.run([ROOT / "docker" / "make-env.sh", file], check=True)
    return read_env_file(file)


def test_all_services_are_there_with_health_checks_and_dependencies(variables):
    services = read_services(variables)
    assert set(services) == {
        "postgres", "redis", "s3", "airflow-init", "airflow-api", "airflow-scheduler", "airflow-dag-processor",
        "airflow-triggerer", "worker", "worker-gpu", "spark-master", "spark-worker", "mlflow",
    }  # fmt: skip
    assert services["spark-worker"].replicas == 2
    for name, service in services.items():
        assert bool(service.health) == (name != "airflow-init"), name
        assert service.restart == ("no" if name == "airflow-init" else "unless-stopped")
        for needed, condition in service.needs.items():
            # Compose waits for ever for the health of a service without a health check.
            assert condition == ("service_healthy" if services[needed].health else "service_completed_successfully")


def test_no_secret_has_a_default_or_is_written_in_a_file(variables):
    messages = dict(re.findall(r"\$\{(\w+):\?([^}]+)\}", FILE.read_text()))
    assert set(messages) == SECRETS
    for name, message in messages.items():
        assert not re.search(rf"\$\{{{name}(:?-|\}})", FILE.read_text()), f"{name} has a default"
        remaining = {key: value for key, value in variables.items() if key != name}
        with pytest.raises(MissingVariable, match=f"{name}: {re.escape(message)}"):
            read_services(remaining)
    # A setting is secret by its name. Its value must come from a variable without a default.
    raw = yaml.safe_load(FILE.read_text())["services"]
    for name, service in raw.items():
        settings = dict(service.get("environment", {}))
        for file in service.get("env_file", []):
            settings |= read_env_file(FILE.parent / file)
        for key, value in settings.items():
            if value is not None and re.search(r"PASSWORD$|SECRET|FERNET|AUTH$|CONN$|BACKEND$|BROKER_URL", key):
                assert re.search(r"\$\{\w+:\?", str(value)), f"{name}: {key}"
    # Command lines can be read by all users.
    for name, service in read_services(variables).items():
        for secret in SECRETS:
            assert variables[secret] not in " ".join([*service.command, *service.health]), name


def test_only_interfaces_are_published_and_on_this_machine(variables):
    services = read_services(variables)
    published = {name: service.ports for name, service in services.items() if service.ports}
    assert published == {
        "airflow-api": ["127.0.0.1:8080:8080"], "spark-master": ["127.0.0.1:8081:8081"],
        "mlflow": ["127.0.0.1:5000:5000"], "s3": ["127.0.0.1:8333:8333"],
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
    text = " ".join(
        f"{' '.join(s.command + s.health)} {' '.join(map(str, s.environment.values()))}" for s in services.values()
    )
    for name, port in re.findall(r"[@/]([a-z][a-z-]+):(\d+)(?![\w@])", text):
        if name != "localhost":
            assert port in services[name].expose, f"{name}:{port}"


def test_services_share_the_bucket_and_no_folder_with_data(variables):
    services = read_services(variables)
    settings = services["worker"].environment
    assert settings["MTORL_LAKE"] == "s3://mtorl/lake"
    assert {settings[f"MTORL_RAW_{name.upper()}"] for name in ("kuairand", "criteo")} == {
        "s3://mtorl/raw/kuairand", "s3://mtorl/raw/criteo",
    }  # fmt: skip
    shared = {name for service in services.values() for name, _ in service.volumes if name}
    assert shared == {"postgres", "redis", "s3", "airflow-logs", "airflow-secrets"}
    for name in ("worker", "worker-gpu", "spark-worker", "airflow-init"):
        assert {key: services[name].environment[key] for key in settings if key.startswith(("AWS", "MTORL_LAKE"))} == {
            key: value for key, value in settings.items() if key.startswith(("AWS", "MTORL_LAKE"))
        }
        assert ("", "/var/mtorl") in services[name].volumes  # its own, with MTORL_SCRATCH
    chosen = {"LAKE": "s3://team/lake", "RAW": "s3://team/raw", "MLFLOW_TRACKING_URI": "https://mlflow.example.org"}
    settings_of_team = read_services(variables | chosen)["spark-worker"].environment
    assert settings_of_team["MTORL_LAKE"] == "s3://team/lake"
    assert settings_of_team["MTORL_RAW_CRITEO"] == "s3://team/raw/criteo"
    assert settings_of_team["MLFLOW_TRACKING_URI"] == "https://mlflow.example.org"
    mlflow = services["mlflow"].environment
    assert mlflow["MLFLOW_BACKEND_STORE_URI"].endswith("@postgres:5432/mlflow")
    assert mlflow["MLFLOW_ARTIFACTS_DESTINATION"] == "s3://mtorl/mlflow"


def test_the_environment_names_any_bucket_with_its_endpoint_and_credentials(variables):
    def store_settings(variables: dict[str, str]) -> list[dict[str, str]]:
        services = read_services(variables)
        return [{k: v for k, v in services[name].environment.items() if k.startswith("AWS_")} for name in IN_STORE]

    s3_service = read_services(variables)["s3"].environment
    for settings in store_settings(variables):  # docker/.env as it is made: the service s3
        assert settings.keys() == STORE
        assert settings["AWS_ENDPOINT_URL"] == "http://s3:8333"
        assert s3_service.items() <= settings.items()
    without_store = {name: value for name, value in variables.items() if name not in STORE}
    amazon = {"AWS_DEFAULT_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    temporary = {**amazon, "AWS_SESSION_TOKEN": "t"}
    compatible = {**amazon, "AWS_ENDPOINT_URL": "https://s3.example.org"}
    role_of_the_machine = {"AWS_DEFAULT_REGION": "eu-central-1"}
    for chosen in (amazon, temporary, compatible, role_of_the_machine):
        # A variable that is not set is not passed on, not even as an empty text: delta-rs takes it for an endpoint.
        assert store_settings(without_store | chosen) == [chosen] * len(IN_STORE)


def test_airflows_processes_agree_on_every_setting(variables):
    services = read_services(variables)
    settings = services["worker"].environment
    # Airflow's processes agree on every setting; the init service has additional ones.
    for name, service in services.items():
        assert not name.startswith(("airflow", "worker")) or settings.items() <= service.environment.items(), name


def test_common_settings_are_read_from_one_file(variables):
    common = read_env_file(ROOT / "bin" / "settings.env")
    assert common == {
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "GX_ANALYTICS_ENABLED": "False",
    }  # fmt: skip
    services = read_services(variables)
    for name in ("worker", "airflow-scheduler", "mlflow"):
        assert common.items() <= services[name].environment.items()
    script = "source bin/common.sh; step_environment; env"
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, text=True, capture_output=True, check=True)
    assert {f"{name}={value}" for name, value in common.items()} <= set(done.stdout.splitlines())
    assert not set(common) & set(read_env_file(ROOT / "docker" / "airflow.env"))


def test_secrets_are_made_once_for_their_owner_alone(tmp_path):
    files = [tmp_path / "first", tmp_path / "second"]
    for file in files:
        subprocess.run([ROOT / "docker" / "make-env.sh", file], check=True)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    first, second = map(read_env_file, files)
    assert set(first) == SECRETS | STORE
    assert not {first[name] for name in SECRETS} & set(second.values())
    assert min(len(first[name]) for name in SECRETS) >= 44
    repeated = subprocess.run([ROOT / "docker" / "make-env.sh", files[0]], text=True, capture_output=True, check=False)
    assert repeated.returncode == 2
    assert repeated.stderr.startswith("error: ")
    assert read_env_file(files[0]) == first


def test_the_image_has_what_its_services_name(variables):
    copied = re.findall(r"^COPY (?:--\S+ )?(.+) \S+$", DOCKERFILE, re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    for source in sources:
        assert (ROOT / source).exists(), source
    # All that a task or a service imports or reads.
    folders = {"schemas", "lakehouse", "features", "jobs", "mtorl_model", "dags", "docker"}
    assert folders | {path.name for path in ROOT.glob("requirements-s3*.txt")} <= sources
    assert {"requirements.txt", "requirements-cluster.txt"} <= sources
    python = re.search(r"^FROM python:(\d+\.\d+)", DOCKERFILE, re.MULTILINE)[1]
    environment = image_environment()
    assert f"/python{python}/" in environment["SPARK_HOME"]
    if sys.version_info[:2] == tuple(map(int, python.split("."))):
        assert Path(environment["SPARK_HOME"].replace("/opt/mtorl/.venv", sys.prefix)).is_dir()
    installed = re.search(r"apt-get install -y --no-install-recommends (.+) \\", DOCKERFILE)[1].split()
    # With a compiler, mtorl_model.training.loop compiles the model.
    assert {"gcc", "libc6-dev"} <= set(installed)
    for service in read_services(variables).values():
        for word in (*service.command, *service.health):
            if word.startswith("docker/"):
                assert os.access(ROOT / word, os.X_OK) or word.endswith(".py")
                assert (ROOT / word).is_file()
        if service.image.startswith("mtorl:"):
            for _, path in service.volumes:
                assert re.search(rf"(?<![\w.]){re.escape(path)}(?!\w)", DOCKERFILE), f"the user does not own {path}"


def test_one_service_builds_the_image_that_all_our_services_use(variables):
    """When several services build one image that does not exist yet, all fail except the first: it "already exists"."""
    definitions = yaml.safe_load(FILE.read_text())["services"]
    assert [name for name, definition in definitions.items() if "build" in definition] == ["airflow-init"]
    images = {
        name: service.image
        for name, service in read_services(variables).items()
        if not service.image.startswith(("postgres:", "redis:"))
    }
    assert set(images.values()) == {"mtorl:latest"}
    assert {definitions[name]["pull_policy"] for name in images} == {"never"}  # else Docker Hub is searched first
    assert len(images) == 11


def test_the_variables_of_the_guide_reach_the_containers(variables):
    sizing = DEPLOY[DEPLOY.index("## Sizing") : DEPLOY.index("## Spark elsewhere")]
    names = set(re.findall(r"`((?:SPARK|MTORL|WORKER)_[A-Z_]+)`", sizing)) - {"SPARK_CONF_DIR"}  # it is mounted
    assert {"SPARK_WORKER_CORES", "MTORL_DRIVER_MEMORY", "WORKER_SLOTS"} < names
    for name in names:
        assert f"${{{name}:-" in FILE.read_text(), name
    # Its example of a second compose file that changes settings of this one.
    (example,) = re.findall(r"```yaml\n(.+?)```", DEPLOY, re.DOTALL)
    services = read_services(variables)
    for name, definition in yaml.safe_load(example)["services"].items():
        spark = json.loads(definition["environment"]["AIRFLOW_CONN_SPARK"])
        assert spark["conn_type"] == json.loads(services[name].environment["AIRFLOW_CONN_SPARK"])["conn_type"]
        assert "default" in services[name].command  # the queue of the Spark drivers


def test_the_gpu_file_gives_the_gpus_to_the_worker_of_their_queue(variables):
    ((name, definition),) = yaml.safe_load(GPU_FILE.read_text())["services"].items()
    command = read_services(variables)[name].command
    assert command[command.index("--queues") + 1] == "gpu"
    assert set(definition) == {"shm_size", "deploy"}  # all that it adds to the service
    # An engine refuses devices without capabilities, and adds no capability by itself.
    ((kind, reserved),) = definition["deploy"]["resources"].items()
    assert (kind, list(reserved)) == ("reservations", ["devices"])
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
    commands = re.findall(r"\b((?:group|user)add) (.*) \\$", DOCKERFILE, re.MULTILINE)
    assert [program for program, _ in commands] == ["groupadd", "useradd"]
    for program, text in commands:
        arguments = [word.replace('"$UID"', str(uid)).replace('"$GID"', str(gid)) for word in text.split()]
        done = subprocess.run([program, "--prefix", tmp_path, *arguments], text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
    assert re.search(rf"^mtorl:.:{uid}:{gid}:", (tmp_path / "etc" / "passwd").read_text(), re.MULTILINE)
    assert (tmp_path / "home" / "mtorl").is_dir()


def test_as_processes_of_one_machine_services_meet_only_where_the_file_connects_them(variables, tmp_path):
    cluster = Cluster(tmp_path, variables)
    ports = [port for container in cluster.containers for port in container.ports.values()]
    assert len(set(ports)) == len(ports) == 9
    names = "|".join(cluster.services)
    for container in cluster.containers:
        text = " ".join([*map(container.local, container.service.command + container.service.health),
                         *container.environment().values()])  # fmt: skip
        assert not re.search(rf"0\.0\.0\.0|/opt/|[@/]({names}):\d+", text), container.home.name
        replicas = [c for c in cluster.containers_of(container.service.name) if c is not container]
        reachable = set(ports) - {port for replica in replicas for port in replica.ports.values()}
        assert set(map(int, re.findall(r"127\.0\.0\.1:(\d+)", text))) <= reachable
    (worker,) = cluster.containers_of("worker")
    (redis,) = cluster.containers_of("redis")
    assert worker.environment()["AIRFLOW__CELERY__BROKER_URL"].endswith(f"@127.0.0.1:{redis.ports['6379']}/0")
    assert worker.environment()["MTORL_LAKE"] == "s3://mtorl/lake"


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
