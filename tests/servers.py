"""Real servers for tests: started on free ports of 127.0.0.1, with one bucket, and killed at the end.

Of S3:

``seaweedfs`` is a server that keeps objects on disk and checks signatures; it starts in about four seconds.
``ministack`` keeps them in memory, takes any signature, and starts in less than one.  Both honour conditional
creates.
``nanio`` ignores them: what the probe must find.

Those of Google Cloud Storage and Azure are in :mod:`tests.clouds`.

The tests that use these are marked ``server``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

HOST = "127.0.0.1"
ACCESS_KEY = "test"
SECRET_KEY = "testtest"
REGION = "us-east-1"
BUCKET = "fsnap-tests"
Server = TypeVar("Server", bound="BucketServer")
_START_TRIES = 3
_READY_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketServer(ABC):
    """A server that runs, and the one bucket in it."""

    name: str
    endpoint: str
    log: Path
    process: subprocess.Popen[bytes]
    bucket: str = BUCKET

    @property
    @abstractmethod
    def scheme(self) -> str: ...

    @abstractmethod
    def environment(self, *, endpoint: str | None = None) -> dict[str, str]:
        """The variables with which the SDK finds this server, by *endpoint* if a proxy stands before it."""

    @abstractmethod
    def make_bucket(self) -> bool:
        """Make the bucket; whether the server is there to do so."""

    def url(self, prefix: str = "") -> str:
        """A store URL in the bucket."""
        return f"{self.scheme}://{self.bucket}" + (f"/{prefix}" if prefix else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Server(BucketServer):
    """A server that speaks S3's protocol."""

    @property
    def scheme(self) -> str:
        return "s3"

    def environment(self, *, endpoint: str | None = None) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": endpoint or self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def make_bucket(self) -> bool:
        try:
            self.client().create_bucket(Bucket=self.bucket)
        except (BotoCoreError, ClientError):
            return False
        return True

    def client(self) -> Any:
        """A plain SDK client, for what no store does."""
        return _client(self.endpoint)


@contextmanager
def seaweedfs(directory: Path) -> Iterator[S3Server]:
    """SeaweedFS with its data under *directory*. Killed, since it takes half a minute to leave by itself."""

    def command(ports: Sequence[int]) -> list[str]:
        data = directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        identity = {
            "name": "test",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        }
        (directory / "s3.json").write_text(json.dumps({"identities": [identity]}))
        services = ("s3", "master", "volume", "filer")
        names = [f"{name}.port{kind}" for kind in ("", ".grpc") for name in services]
        return [
            executable("weed"),
            "server",
            f"-dir={data}",
            f"-ip={HOST}",
            f"-ip.bind={HOST}",
            "-s3",
            "-s3.autoCreateBucket=false",
            f"-s3.config={directory / 's3.json'}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-master.telemetry=false",
            "-master.volumeSizeLimitMB=256",
            "-volume.max=100",
            *(f"-{name}={port}" for name, port in zip(names, ports, strict=True)),
        ]

    with running(S3Server, "seaweedfs", directory, command, ports=8) as server:
        yield server


@contextmanager
def ministack(directory: Path) -> Iterator[S3Server]:
    """Ministack; what it keeps is gone with it."""
    quiet = {"BIND_HOST": HOST, "IOT_MTLS_ENABLED": "0", "SFTP_ENABLED": "0"}
    with running(
        S3Server,
        "ministack",
        directory,
        lambda ports: [executable("ministack")],
        variables=lambda ports: quiet | {"GATEWAY_PORT": str(ports[0])},
    ) as server:
        yield server


def has_nanio() -> bool:
    """Whether nanio is installed."""
    return importlib.util.find_spec("nanio") is not None


@contextmanager
def nanio(directory: Path) -> Iterator[S3Server]:
    """Nanio with its data under *directory*: it takes the create-only condition and ignores it."""
    data = directory / "data"
    data.mkdir(parents=True, exist_ok=True)
    keys = {"NANIO_ACCESS_KEY": ACCESS_KEY, "NANIO_SECRET_KEY": SECRET_KEY}
    with running(
        S3Server,
        "nanio",
        directory,
        lambda ports: [
            executable("nanio"), "serve", "--host", HOST, "--port", str(ports[0]), "--data-dir", str(data),
        ],
        variables=lambda ports: keys,
    ) as server:  # fmt: skip
        yield server


@contextmanager
def running(
    kind: type[Server],
    name: str,
    directory: Path,
    command: Callable[[Sequence[int]], list[str]],
    *,
    variables: Callable[[Sequence[int]], Mapping[str, str]] = lambda ports: {},
    ports: int = 1,
) -> Iterator[Server]:
    """Start *command* on free ports, again if somebody took one of them meanwhile, and kill it at the end."""
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / f"{name}.log"
    for _ in range(_START_TRIES):
        chosen = free_ports(ports)
        with log.open("wb") as output:
            process = subprocess.Popen(
                _dying_with_us(command(chosen)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=directory,
                env=_plain_environment() | {"TMPDIR": str(directory)} | dict(variables(chosen)),
            )
        server = kind(name=name, endpoint=f"http://{HOST}:{chosen[0]}", log=log, process=process)
        try:
            if _ready(server):
                yield server
                return
        finally:
            process.kill()
            process.wait()
            _sweep(chosen)
    raise RuntimeError(f"{name} does not start:\n{log.read_text(errors='replace')[-2000:]}")


def _sweep(ports: Sequence[int]) -> None:
    """Remove what servers leave in /tmp, whatever ``TMPDIR`` says, under the names of their ports."""
    for port in ports:
        for left in Path("/tmp").glob(f"*-{port}.sock"):
            left.unlink(missing_ok=True)


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on just now."""
    with ExitStack() as sockets:
        found = []
        for _ in range(count):
            probe = sockets.enter_context(socket.socket())
            probe.bind((HOST, 0))
            found.append(int(probe.getsockname()[1]))
        return found


def _ready(server: BucketServer) -> bool:
    """Wait until the bucket could be made; false when the process ended instead."""
    give_up_s = time.monotonic() + _READY_S
    while time.monotonic() < give_up_s and server.process.poll() is None:
        if server.make_bucket():
            return server.process.poll() is None
        time.sleep(0.05)
    return False


def _client(endpoint: str) -> Any:
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        region_name=REGION,
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=10),
    )


def executable(name: str) -> str:
    """The program of that name that was installed beside this interpreter, or on the PATH."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise RuntimeError(f"{name} is not installed; tools/setup installs what the tests need")
    return found


def _dying_with_us(command: list[str]) -> list[str]:
    """So that a test run that is killed leaves no server behind."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--", *command] if setpriv else command


def _plain_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
