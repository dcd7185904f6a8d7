"""The two stores of the bench: a directory, and a real S3 server on 127.0.0.1."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from _bench.failure import BenchFailure
from tests.servers import S3Server, seaweedfs

OBJECT_BYTES = 16 << 20
"""Of an object that the put rate is measured with: fsnap's packs are as large."""


class Side(Protocol):
    """Where snapshots go, for fsnap and for the naive way."""

    name: str
    env: Mapping[str, str]

    def url(self, number: int) -> str:
        """A store for fsnap, empty."""
        ...

    def put(self, path: Path, key: str) -> None:
        """The naive way there."""
        ...

    def get(self, key: str, path: Path) -> None:
        """The naive way back."""
        ...

    def clear(self) -> None:
        """Forget what was put."""
        ...


class FileSide:
    """A directory, and ``cp``."""

    name = "file"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.env: Mapping[str, str] = {}

    def url(self, number: int) -> str:
        return f"file://{self._folder}/{number}"

    def put(self, path: Path, key: str) -> None:
        (self._folder / "naive").mkdir(parents=True, exist_ok=True)
        _run(["cp", str(path), str(self._folder / "naive" / key)])

    def get(self, key: str, path: Path) -> None:
        _run(["cp", str(self._folder / "naive" / key), str(path)])

    def clear(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


class S3Side:
    """A bucket, and boto3's ``upload_file`` and ``download_file`` as they come."""

    name = "s3"

    def __init__(self, server: S3Server) -> None:
        self._server = server
        self._client: Any = server.client()
        self.env: Mapping[str, str] = server.environment()

    def url(self, number: int) -> str:
        return self._server.url(f"fsnap-{number}")

    def put(self, path: Path, key: str) -> None:
        self._client.upload_file(str(path), self._server.bucket, f"naive/{key}")

    def get(self, key: str, path: Path) -> None:
        self._client.download_file(self._server.bucket, f"naive/{key}", str(path))

    def put_rate_bps(self, folder: Path, total_bytes: int) -> float:
        """Bytes per second that the server takes from ``curl -T``, the best of 1, 2 and 4 at once.

        The URLs are presigned and the payload is not signed, so the client does nothing but send.
        """
        count = max(4, total_bytes // OBJECT_BYTES)
        body = folder / "body"
        body.write_bytes(os.urandom(OBJECT_BYTES))
        urls = [self._presigned(f"rate/{number}") for number in range(count)]
        best = 0.0
        for parallel in (1, 2, 4):
            words = [word for url in urls for word in ("-T", str(body), url)]
            began_s = time.monotonic()
            _run(["curl", "-sS", "--fail", "-Z", "--parallel-max", str(parallel), *words])
            best = max(best, count * OBJECT_BYTES / (time.monotonic() - began_s))
        body.unlink()
        self._remove("rate/")
        return best

    def clear(self) -> None:
        self._remove("")

    def _presigned(self, key: str) -> str:
        found = self._client.generate_presigned_url(
            "put_object", Params={"Bucket": self._server.bucket, "Key": key}
        )
        return str(found)

    def _remove(self, prefix: str) -> None:
        pages = self._client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self._server.bucket, Prefix=prefix):
            for row in page.get("Contents", ()):
                self._client.delete_object(Bucket=self._server.bucket, Key=row["Key"])


@contextmanager
def s3_side(folder: Path) -> Iterator[S3Side]:
    """SeaweedFS with its data below *folder*."""
    with seaweedfs(folder) as server:
        yield S3Side(server)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchFailure(f"{command[0]} failed: {done.stderr.strip()[-300:]}")
