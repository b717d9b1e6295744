"""docker/compose.yaml, read as Compose reads it, and run without a container engine.

Each service becomes processes of this machine with the file's own command, environment, order of start and health
check. What a container would bring is stood in for, and nothing else: `service:port` becomes 127.0.0.1 and a free
port, 0.0.0.0 becomes 127.0.0.1, the image's folders and the volumes become folders here. The two images that are not
ours, PostgreSQL and Redis, are Debian's packages.

python tests/helpers/compose.py HOME ends whatever a cluster in that folder has left running.
"""

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docker" / "compose.yaml"
MARK = "MTORL_CLUSTER"  # in the environment of every process: the folder of its container
READY_S = 300
HEALTH_S = 60
GRACE_S = 20

_VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?:(:[-?])([^{}]*))?\})")


# --- the file -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Service:
    """A service with all variables filled in. volumes: (folder or name on the host, "" where none; path inside)."""

    name: str
    image: str
    command: list[str]
    environment: dict[str, str]
    health: list[str]
    needs: dict[str, str]
    volumes: list[tuple[str, str]]
    expose: list[str]
    ports: list[str]
    replicas: int
    restart: str


# What the file may say of a service: an engine refuses what it does not know.
_READ = {"image", "command", "environment", "env_file", "healthcheck", "depends_on", "volumes", "expose", "ports",
         "deploy", "restart"}  # fmt: skip
_SKIPPED = {"build", "pull_policy", "user", "stop_grace_period"}


class MissingVariable(Exception):
    """A `${NAME:?what}` without a value."""


def fill_in(value: Any, variables: dict[str, str]) -> Any:
    """Interpolation as Compose does it: ${A}, ${A:-default}, ${A:?what is missing}, and $$ for a dollar."""
    if isinstance(value, dict):
        return {key: fill_in(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [fill_in(item, variables) for item in value]
    if not isinstance(value, str):
        return value

    def replacement(found: re.Match[str]) -> str:
        dollar, name, operator, rest = found.groups()
        if dollar:
            return "$"
        if variables.get(name):
            return variables[name]
        if operator == ":?":
            raise MissingVariable(f"{name}: {rest}")
        return rest or ""

    return _VARIABLE.sub(replacement, value)


def read_env_file(file: Path) -> dict[str, str]:
    lines = (line.strip() for line in file.read_text().splitlines())
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def read_services(variables: dict[str, str], file: Path = FILE) -> dict[str, Service]:
    found = {}
    for name, told in fill_in(yaml.safe_load(file.read_text()), variables)["services"].items():
        if unknown := told.keys() - _READ - _SKIPPED:
            raise ValueError(f"service {name}: nobody knows {sorted(unknown)}")
        environment: dict[str, str] = {}
        for env_file in told.get("env_file", []):
            environment |= read_env_file(file.parent / env_file)
        environment |= told.get("environment", {})
        volumes = [volume.removesuffix(":ro").rpartition(":")[::2] for volume in told.get("volumes", [])]
        found[name] = Service(
            name, told["image"], told["command"], environment, told.get("healthcheck", {}).get("test", []),
            {other: needs["condition"] for other, needs in told.get("depends_on", {}).items()}, volumes,
            told.get("expose", []), told.get("ports", []), told.get("deploy", {}).get("replicas", 1), told["restart"],
        )  # fmt: skip
    return found


def image_environment(dockerfile: Path = ROOT / "docker" / "Dockerfile") -> dict[str, str]:
    """What the ENV lines of the image set."""
    return dict(re.findall(r"^ENV (\w+)=(\S+)$", dockerfile.read_text(), re.MULTILINE))


# --- the processes ------------------------------------------------------------------------------------------


def members(home: Path) -> list[psutil.Process]:
    """The living processes of the containers in a folder, or of the one container that it is.

    PostgreSQL and Redis write over their environment: they are found by the number that their start has noted.
    """
    found = {}
    for process in psutil.process_iter():
        try:
            mark = process.environ().get(MARK, "")
            if (mark == str(home) or mark.startswith(f"{home}/")) and process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    for file in (*home.glob("started"), *home.glob("containers/*/started")):
        pid, began = file.read_text().split()
        try:
            first = psutil.Process(int(pid))
            if _began(first.pid) == began and first.status() != psutil.STATUS_ZOMBIE:
                found |= {process.pid: process for process in (first, *first.children(recursive=True))}
        except (psutil.NoSuchProcess, FileNotFoundError):
            continue
    return list(found.values())


def _began(pid: int) -> str:
    """When a process began, in ticks since the machine did: no change of the clock changes it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def end(home: Path) -> None:
    """End these processes, gently first."""
    deadline = time.monotonic() + GRACE_S
    _signal(members(home), signal.SIGTERM)
    while members(home) and time.monotonic() < deadline:
        time.sleep(0.3)
    kill(home)


def kill(home: Path) -> None:
    """End these processes as a lost machine or `docker kill` does: all at once."""
    deadline = time.monotonic() + GRACE_S
    while (left := members(home)) and time.monotonic() < deadline:
        _signal(left, signal.SIGKILL)
        time.sleep(0.1)
    assert not left, f"these do not end: {left}"


def _signal(processes: list[psutil.Process], number: int) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue


@dataclass
class Container:
    """One replica of a service."""

    service: Service
    home: Path
    ports: dict[str, int]
    local: Callable[[str], str] = lambda text: text
    process: subprocess.Popen | None = None
    healthy: bool = False

    def run(self, command: list[str], **more: Any) -> subprocess.Popen:
        return subprocess.Popen(
            [self.local(word) for word in command], env=self.environment(), cwd=ROOT, stdin=subprocess.DEVNULL,
            start_new_session=True, **more,
        )  # fmt: skip

    def environment(self) -> dict[str, str]:
        image = image_environment() if self.service.image.startswith("mtorl:") else {"PATH": os.defpath}
        if self.service.image.startswith("postgres:"):  # Debian keeps the server's programs apart
            image["PATH"] += f":{max(Path('/usr/lib/postgresql').glob('*/bin'))}"
        own = {
            "HOME": str(self.home), "HOSTNAME": socket.gethostname(), "LANG": "C.UTF-8", MARK: str(self.home),
            # Airflow renames its processes; SPT_NOENV keeps that from overwriting the environment, and so the mark.
            "SPT_NOENV": "1",
            # A container has an address of its own; here all have this one.
            "SPARK_LOCAL_IP": "127.0.0.1",
        }  # fmt: skip
        return {name: self.local(str(value)) for name, value in (image | self.service.environment).items()} | own


@dataclass
class Cluster:
    """All services of the file, in folders below `home`. overrides: environment on top of every service's own."""

    home: Path
    variables: dict[str, str]
    overrides: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.services = {}
        for name, service in read_services(self.variables).items():
            if service.image.startswith("mtorl:"):
                service.environment.update(self.overrides)
            self.services[name] = service
        ports = free_ports()
        self.containers = [
            Container(service, self.home / "containers" / f"{service.name}-{k}",
                      {port: next(ports) for port in service.expose})
            for service in self.services.values()
            for k in range(1, service.replicas + 1)
        ]  # fmt: skip
        ports.close()
        for container in self.containers:
            container.local = self._local(container)

    def of(self, name: str) -> list[Container]:
        return [container for container in self.containers if container.service.name == name]

    def url(self, name: str, port: str) -> str:
        return f"http://127.0.0.1:{self.of(name)[0].ports[port]}"

    def up(self) -> None:
        """Start all in the order of the file; wait until each is healthy, as its own health check says."""
        deadline = time.monotonic() + READY_S
        waiting = list(self.containers)
        while waiting or not all(self._is_ready(container) for container in self.containers):
            for container in [c for c in waiting if self._needs_are_met(c)]:
                self.start(container)
                waiting.remove(container)
            sick = ", ".join(c.home.name for c in self.containers if not c.healthy)
            assert time.monotonic() < deadline, f"not healthy after {READY_S} s: {sick}; see the logs in {self.home}"
            time.sleep(1)

    def _needs_are_met(self, container: Container) -> bool:
        return all(self._is_ready(c) for name in container.service.needs for c in self.of(name))

    def _is_ready(self, container: Container) -> bool:
        """Finished without an error where it has no health check (the init service), else healthy."""
        if container.process is None:
            return False
        if not container.healthy:
            ended = container.process.poll()
            assert ended in (None, 0), f"{container.home.name} ended with {ended}: {self.log(container)[-2000:]}"
            container.healthy = self.is_healthy(container) if container.service.health else ended == 0
        return container.healthy

    def is_healthy(self, container: Container) -> bool:
        kind, *command = container.service.health
        command = ["sh", "-c", *command] if kind == "CMD-SHELL" else command
        check = container.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            return check.wait(timeout=HEALTH_S) == 0
        except subprocess.TimeoutExpired:
            check.kill()
            return False

    def start(self, container: Container) -> None:
        container.home.mkdir(parents=True, exist_ok=True)
        for _, folder in self._folders(container):
            folder.mkdir(parents=True, exist_ok=True)
        with (container.home / "log").open("ab") as log:
            if container.service.image.startswith("postgres:"):
                container.process = self._postgres(container, log)
            else:
                container.process = container.run(container.service.command, stdout=log, stderr=log)
        pid = container.process.pid
        (container.home / "started").write_text(f"{pid} {_began(pid)}")

    def restart(self, container: Container) -> None:
        """What the engine does with a container that was killed."""
        assert container.service.restart == "unless-stopped"
        assert members(container.home) == []
        container.healthy = False
        self.start(container)

    def log(self, container: Container) -> str:
        return (container.home / "log").read_text(errors="replace")

    def _folders(self, container: Container) -> Iterator[tuple[str, Path]]:
        """Paths inside the container, and the folders that stand for them: what is shared is one folder for all."""
        if container.service.image.startswith("mtorl:"):
            yield "/opt/mtorl", ROOT
            yield "/opt/airflow", container.home / "airflow"
        for source, inside in container.service.volumes:
            if source.startswith("/"):
                yield inside, Path(source)
            else:
                yield inside, self.home / "volumes" / source if source else container.home / inside.strip("/")

    def _local(self, container: Container) -> Callable[[str], str]:
        """What a container would see, in this machine's terms."""
        places = [(rf"\b{c.service.name}:{inside}\b", f"127.0.0.1:{port}")
                  for c in self.containers for inside, port in c.ports.items()]  # fmt: skip
        places += [(rf"\b{inside}\b", str(port)) for inside, port in container.ports.items()]
        places += [(r"\b0\.0\.0\.0\b", "127.0.0.1")]
        folders = sorted(self._folders(container), key=lambda pair: -len(pair[0]))
        places += [(rf"(?<![\w.-]){re.escape(inside)}(?![\w-])", str(folder)) for inside, folder in folders]

        def local(text: str) -> str:
            for pattern, replacement in places:
                text = re.sub(pattern, lambda _, replacement=replacement: replacement, text)
            return text

        return local

    def _postgres(self, container: Container, log: Any) -> subprocess.Popen:
        """What the image's entry point does: a data folder with the user and the database, then the server."""
        environment = container.environment()
        data = Path(container.local("/var/lib/postgresql/data"))
        who: dict[str, Any] = {}
        if os.getuid() == 0:  # PostgreSQL refuses to run as root
            user = pwd.getpwnam("postgres")
            who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            shutil.chown(data, user.pw_uid, user.pw_gid)
        new = not (data / "PG_VERSION").exists()
        if new:
            words = container.home / "words"
            words.touch(0o600)
            words.write_text(environment["POSTGRES_PASSWORD"])
            if who:
                shutil.chown(words, who["user"])
            initdb = ["initdb", "--pgdata", str(data), "--username", environment["POSTGRES_USER"], "--encoding=UTF8",
                      "--pwfile", str(words), "--auth-local=reject",
                      *environment["POSTGRES_INITDB_ARGS"].split()]  # fmt: skip
            subprocess.run(initdb, env=environment, check=True, stdout=log, stderr=log, **who)
            words.unlink()
        command = [*container.service.command, "-D", str(data), "-c", "unix_socket_directories="]
        process = container.run(command, stdout=log, stderr=log, **who)
        while not self.is_healthy(container):
            assert process.poll() is None, self.log(container)
            time.sleep(0.2)
        if new:
            create = ["psql", "--host=127.0.0.1", f"--port={container.ports['5432']}", "--dbname=postgres",
                      "--username", environment["POSTGRES_USER"],
                      "--command", f"CREATE DATABASE {environment['POSTGRES_DB']}"]  # fmt: skip
            words = environment | {"PGPASSWORD": environment["POSTGRES_PASSWORD"]}
            subprocess.run(create, env=words, check=True, stdout=log, stderr=log)
        return process


def free_ports() -> Generator[int, None, None]:
    """Ports that nobody listens on, all different until the generator is closed."""
    with ExitStack() as held:
        while True:
            probe = held.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            yield probe.getsockname()[1]


if __name__ == "__main__":
    end(Path(sys.argv[1]))
