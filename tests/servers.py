"""Real S3 servers for tests: started on free ports of 127.0.0.1, with one bucket, and killed at the end.

``seaweedfs`` is a server that keeps objects on disk and checks signatures; it starts in about four seconds.
``ministack`` keeps them in memory, takes any signature, and starts in less than one.  Both honour conditional
creates.
``nanio`` ignores them: what the probe must find.

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

HOST = "127.0.0.1"
ACCESS_KEY = "test"
SECRET_KEY = "testtest"
REGION = "us-east-1"
BUCKET = "fsnap-tests"
_START_TRIES = 3
_READY_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Server:
    """A server that runs, and the one bucket in it."""

    name: str
    endpoint: str
    bucket: str
    log: Path
    process: subprocess.Popen[bytes]

    def url(self, prefix: str = "") -> str:
        """A store URL in the bucket."""
        return f"s3://{self.bucket}" + (f"/{prefix}" if prefix else "")

    def environment(self, *, endpoint: str | None = None) -> dict[str, str]:
        """The variables with which the SDK finds this server, by *endpoint* if a proxy stands before it."""
        return {
            "AWS_ENDPOINT_URL": endpoint or self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

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
            _executable("weed"),
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

    with _running("seaweedfs", directory, command, ports=8) as server:
        yield server


@contextmanager
def ministack(directory: Path) -> Iterator[S3Server]:
    """Ministack; what it keeps is gone with it."""
    quiet = {"BIND_HOST": HOST, "IOT_MTLS_ENABLED": "0", "SFTP_ENABLED": "0"}
    with _running(
        "ministack",
        directory,
        lambda ports: [_executable("ministack")],
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
    with _running(
        "nanio",
        directory,
        lambda ports: [
            _executable("nanio"), "serve", "--host", HOST, "--port", str(ports[0]), "--data-dir", str(data),
        ],
        variables=lambda ports: keys,
    ) as server:  # fmt: skip
        yield server


@contextmanager
def _running(
    name: str,
    directory: Path,
    command: Callable[[Sequence[int]], list[str]],
    *,
    variables: Callable[[Sequence[int]], Mapping[str, str]] = lambda ports: {},
    ports: int = 1,
) -> Iterator[S3Server]:
    """Start *command* on free ports, again if somebody took one of them meanwhile, and kill it at the end."""
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / f"{name}.log"
    for _ in range(_START_TRIES):
        chosen = free_ports(ports)
        endpoint = f"http://{HOST}:{chosen[0]}"
        with log.open("wb") as output:
            process = subprocess.Popen(
                _dying_with_us(command(chosen)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=directory,
                env=_plain_environment() | dict(variables(chosen)),
            )
        try:
            if _ready(process, endpoint):
                yield S3Server(name=name, endpoint=endpoint, bucket=BUCKET, log=log, process=process)
                return
        finally:
            process.kill()
            process.wait()
    raise RuntimeError(f"{name} does not start:\n{log.read_text(errors='replace')[-2000:]}")


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on just now."""
    with ExitStack() as sockets:
        found = []
        for _ in range(count):
            probe = sockets.enter_context(socket.socket())
            probe.bind((HOST, 0))
            found.append(int(probe.getsockname()[1]))
        return found


def _ready(process: subprocess.Popen[bytes], endpoint: str) -> bool:
    """Wait until the bucket could be made; false when the process ended instead."""
    client = _client(endpoint)
    give_up_s = time.monotonic() + _READY_S
    while time.monotonic() < give_up_s and process.poll() is None:
        try:
            client.create_bucket(Bucket=BUCKET)
        except (BotoCoreError, ClientError):
            time.sleep(0.05)
        else:
            return process.poll() is None
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


def _executable(name: str) -> str:
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
