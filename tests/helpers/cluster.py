"""Runs the services of docker/compose.yaml as processes of this machine, without a container engine.

Each service becomes processes with the file's own command, environment, order of start and health check. Only what a
container provides is replaced: `service:port` becomes 127.0.0.1 and a free port, 0.0.0.0 becomes 127.0.0.1, the image's
folders and the volumes become folders here. PostgreSQL and Redis, whose images are not ours, are Debian's packages.

Containers of our image do not see each other's files: where this user may make mount namespaces, each has one in which
only its own folders are visible. Otherwise each only has a home, a scratch and a temporary folder that differ.

python tests/helpers/cluster.py HOME ends all processes of a cluster in that folder.
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
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import psutil
from compose_file import ROOT, Service, image_environment, read_services
from s3_server import SERVER_PORTS

NAMESPACE_SCRIPT = Path(__file__).with_name("alone.sh")
MARK = "MTORL_CLUSTER"  # in the environment of every process: the folder of its container
READY_LIMIT_S = 300
HEALTH_LIMIT_S = 60
GRACE_S = 20


def members(home: Path) -> list[psutil.Process]:
    """The living processes of all containers in this folder, or of the container whose folder it is.

    PostgreSQL and Redis overwrite their environment, and so the mark: the file `started` names their first process.
    """
    processes = {}
    for process in psutil.process_iter():
        try:
            mark = process.environ().get(MARK, "")
            if (mark == str(home) or mark.startswith(f"{home}/")) and process.status() != psutil.STATUS_ZOMBIE:
                processes[process.pid] = process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    for file in (*home.glob("started"), *home.glob("containers/*/started")):
        pid, start_ticks = file.read_text().split()
        try:
            first = psutil.Process(int(pid))
            if _start_ticks(first.pid) == start_ticks and first.status() != psutil.STATUS_ZOMBIE:
                processes |= {process.pid: process for process in (first, *first.children(recursive=True))}
        except (psutil.NoSuchProcess, FileNotFoundError):
            continue
    return list(processes.values())


def _start_ticks(pid: int) -> str:
    """The start of a process in ticks since the machine booted, which no change of the clock changes."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def end(home: Path) -> None:
    """End these processes: first SIGTERM, after GRACE_S seconds SIGKILL."""
    deadline = time.monotonic() + GRACE_S
    _signal(members(home), signal.SIGTERM)
    while members(home) and time.monotonic() < deadline:
        time.sleep(0.3)
    kill(home)


def kill(home: Path) -> None:
    """End all these processes with SIGKILL, as the loss of the machine or `docker kill` would."""
    deadline = time.monotonic() + GRACE_S
    while (remaining := members(home)) and time.monotonic() < deadline:
        _signal(remaining, signal.SIGKILL)
        time.sleep(0.1)
    assert not remaining, f"these processes do not end: {remaining}"


def _signal(processes: list[psutil.Process], number: int) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue


@dataclass
class Container:
    """One replica of a service.

    home: its folder here. ports: the port here by the port inside. local: translates a text from inside the container
    to this machine.
    """

    service: Service
    home: Path
    ports: dict[str, int]
    local: Callable[[str], str] = lambda text: text
    process: subprocess.Popen | None = None
    healthy: bool = False

    def run(self, command: list[str], prefix: Sequence[str] = (), **options: Any) -> subprocess.Popen:
        """Start a command in the container. prefix: a program, with its arguments, that starts the command."""
        return subprocess.Popen(
            [*prefix, *map(self.local, command)], env=self.environment(), cwd=ROOT, stdin=subprocess.DEVNULL,
            start_new_session=True, **options,
        )  # fmt: skip

    def environment(self) -> dict[str, str]:
        image = image_environment() if self.service.image.startswith("mtorl:") else {"PATH": os.defpath}
        if self.service.image.startswith("postgres:"):  # Debian keeps the server's programs apart
            image["PATH"] += f":{max(Path('/usr/lib/postgresql').glob('*/bin'))}"
        container = {
            "HOME": str(self.home), "TMPDIR": str(self.home / "tmp"), "HOSTNAME": socket.gethostname(),
            "LANG": "C.UTF-8", MARK: str(self.home),
            "SPT_NOENV": "1",  # else Airflow, which renames its processes, overwrites the environment and so the mark
            "SPARK_LOCAL_IP": "127.0.0.1",  # a real container has its own address
        }  # fmt: skip
        settings = image | self.service.environment
        return {name: self.local(str(value)) for name, value in settings.items()} | container


@dataclass
class Cluster:
    """All services of the file, in folders below `home`. overrides: settings that all services of our image get."""

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

    def containers_of(self, name: str) -> list[Container]:
        return [container for container in self.containers if container.service.name == name]

    def url(self, name: str, port: str) -> str:
        return f"http://127.0.0.1:{self.containers_of(name)[0].ports[port]}"

    def up(self) -> None:
        """Start all containers in the order of the file, and wait until the health check of each succeeds."""
        deadline = time.monotonic() + READY_LIMIT_S
        waiting = list(self.containers)
        while waiting or not all(self._is_ready(container) for container in self.containers):
            for container in [c for c in waiting if self._needs_are_met(c)]:
                self.start(container)
                waiting.remove(container)
            unhealthy = ", ".join(c.home.name for c in self.containers if not c.healthy)
            assert time.monotonic() < deadline, (
                f"not healthy after {READY_LIMIT_S} s: {unhealthy}; see the logs in {self.home}"
            )
            time.sleep(1)

    def _needs_are_met(self, container: Container) -> bool:
        return all(self._is_ready(c) for name in container.service.needs for c in self.containers_of(name))

    def _is_ready(self, container: Container) -> bool:
        """Whether it is healthy. The init service, which has no health check, is ready when it has ended with 0."""
        if container.process is None:
            return False
        if not container.healthy:
            status = container.process.poll()
            assert status in (None, 0), f"{container.home.name} ended with {status}: {self.log(container)[-2000:]}"
            container.healthy = self.is_healthy(container) if container.service.health else status == 0
        return container.healthy

    def is_healthy(self, container: Container) -> bool:
        kind, *command = container.service.health
        command = ["sh", "-c", *command] if kind == "CMD-SHELL" else command
        check = container.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            return check.wait(timeout=HEALTH_LIMIT_S) == 0
        except subprocess.TimeoutExpired:
            check.kill()
            return False

    def start(self, container: Container) -> None:
        (container.home / "tmp").mkdir(parents=True, exist_ok=True)
        for _, folder in self._folders(container):
            folder.mkdir(parents=True, exist_ok=True)
        with (container.home / "log").open("ab") as log:
            if container.service.image.startswith("postgres:"):
                container.process = self._postgres(container, log)
            else:
                command = container.service.command + self._unshared_ports(container)
                container.process = container.run(command, self._in_namespace(container), stdout=log, stderr=log)
        pid = container.process.pid
        (container.home / "started").write_text(f"{pid} {_start_ticks(pid)}")

    def _in_namespace(self, container: Container) -> list[str]:
        """The program that hides the files of the other containers; nothing if this user may not make namespaces."""
        unshare = ["unshare", "--mount", "--propagation", "private"]
        if not container.service.image.startswith("mtorl:") or not may_unshare():
            return []
        folders = {folder for _, folder in self._folders(container) if folder.is_relative_to(self.home)}
        visible = [folder for folder in folders if not folder.is_relative_to(container.home)]
        return [*unshare, "sh", str(NAMESPACE_SCRIPT), str(self.home), str(container.home), *map(str, visible), "--"]

    def _unshared_ports(self, container: Container) -> list[str]:
        """Free ports for the inner parts of the S3 store, which has its own address in a real container."""
        if container.service.name != "s3":
            return []
        ports = free_ports()
        inner = [name for name in SERVER_PORTS if name != "s3.port"]
        return [f"-{name}={port}" for name, port in zip(inner, ports, strict=False)]

    def restart(self, container: Container) -> None:
        """Start a container that was killed, as the engine does."""
        assert container.service.restart == "unless-stopped"
        assert members(container.home) == []
        container.healthy = False
        self.start(container)

    def log(self, container: Container) -> str:
        return (container.home / "log").read_text(errors="replace")

    def _folders(self, container: Container) -> Iterator[tuple[str, Path]]:
        """(path inside the container, folder here that replaces it). A shared volume is one folder for all."""
        if container.service.image.startswith("mtorl:"):
            yield "/opt/mtorl", ROOT
            yield "/opt/airflow", container.home / "airflow"
        for source, mount in container.service.volumes:
            if source.startswith("/"):
                yield mount, Path(source)
            else:
                yield mount, self.home / "volumes" / source if source else container.home / mount.strip("/")

    def _local(self, container: Container) -> Callable[[str], str]:
        """The translation of addresses and paths inside the container to those of this machine."""
        patterns = [(rf"\b{c.service.name}:{port}\b", f"127.0.0.1:{local_port}")
                    for c in self.containers for port, local_port in c.ports.items()]  # fmt: skip
        patterns += [(rf"\b{port}\b", str(local_port)) for port, local_port in container.ports.items()]
        patterns += [(r"\b0\.0\.0\.0\b", "127.0.0.1")]
        folders = sorted(self._folders(container), key=lambda pair: -len(pair[0]))
        patterns += [(rf"(?<![\w.-]){re.escape(path)}(?![\w-])", str(folder)) for path, folder in folders]

        def local(text: str) -> str:
            for pattern, replacement in patterns:
                text = re.sub(pattern, lambda _, replacement=replacement: replacement, text)
            return text

        return local

    def _postgres(self, container: Container, log: Any) -> subprocess.Popen:
        """Do what the entry point of its image does: create user and database in the data folder, start the server."""
        environment = container.environment()
        data = Path(container.local("/var/lib/postgresql/data"))
        run_as: dict[str, Any] = {}
        if os.getuid() == 0:  # PostgreSQL refuses to run as root
            user = pwd.getpwnam("postgres")
            run_as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            shutil.chown(data, user.pw_uid, user.pw_gid)
        is_new = not (data / "PG_VERSION").exists()
        if is_new:
            password_file = container.home / "password"
            password_file.touch(0o600)
            password_file.write_text(environment["POSTGRES_PASSWORD"])
            if run_as:
                shutil.chown(password_file, run_as["user"])
            initdb = ["initdb", "--pgdata", str(data), "--username", environment["POSTGRES_USER"], "--encoding=UTF8",
                      "--pwfile", str(password_file), "--auth-local=reject",
                      *environment["POSTGRES_INITDB_ARGS"].split()]  # fmt: skip
            subprocess.run(initdb, env=environment, check=True, stdout=log, stderr=log, **run_as)
            password_file.unlink()
        command = [*container.service.command, "-D", str(data), "-c", "unix_socket_directories="]
        process = container.run(command, stdout=log, stderr=log, **run_as)
        while not self.is_healthy(container):
            assert process.poll() is None, self.log(container)
            time.sleep(0.2)
        if is_new:
            create = ["psql", "--host=127.0.0.1", f"--port={container.ports['5432']}", "--dbname=postgres",
                      "--username", environment["POSTGRES_USER"],
                      "--command", f"CREATE DATABASE {environment['POSTGRES_DB']}"]  # fmt: skip
            with_password = environment | {"PGPASSWORD": environment["POSTGRES_PASSWORD"]}
            subprocess.run(create, env=with_password, check=True, stdout=log, stderr=log)
        return process


@cache
def may_unshare() -> bool:
    return bool(shutil.which("unshare")) and subprocess.run(["unshare", "--mount", "true"], check=False).returncode == 0


def free_ports() -> Generator[int, None, None]:
    """Ports that are not in use, all different until the generator is closed."""
    with ExitStack() as open_probes:
        while True:
            probe = open_probes.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            yield probe.getsockname()[1]


if __name__ == "__main__":
    end(Path(sys.argv[1]))
