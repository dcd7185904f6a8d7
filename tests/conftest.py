"""What holds for every test: no processes and no sockets unless a mark allows them, and a clean environment.

A test without a mark is pure or works on files.  ``process`` allows child processes and sockets, and so do
``server`` and ``criu``.  ``criu`` tests need root and a CRIU that works on this kernel: where those are
missing the test is skipped with the reason, and under ``CI=true`` it fails.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

MARKS_THAT_ALLOW_PROCESSES = ("process", "server", "criu")

# Audit events of the interpreter: https://docs.python.org/3/library/audit_events.html
FORBIDDEN_EVENTS = frozenset(
    {
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.system",
        "pty.spawn",
        "socket.bind",
        "socket.connect",
        "socket.getaddrinfo",
        "socket.gethostbyname",
        "socket.sendto",
        "subprocess.Popen",
    }
)

# What a developer's shell or a scheduler may have set, and what would change a test's outcome.
FOREIGN_VARIABLES = ("AWS_", "AZURE_", "BATCH_", "FSNAP_", "GCE_", "GOOGLE_", "NXF_", "SLURM_", "STORAGE_")


class ProcessBan:
    """An audit hook cannot be removed, so one is installed for the whole run and switched per test."""

    def __init__(self) -> None:
        self.active = False
        self.violations: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, _arguments: tuple[object, ...]) -> None:
        if self.active and event in FORBIDDEN_EVENTS:
            self.violations.append(event)
            raise RuntimeError(f"{event} in a test that has none of the marks {MARKS_THAT_ALLOW_PROCESSES}")


BAN = ProcessBan()

hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") == "true" else "local")


@pytest.fixture(autouse=True)
def _ban_processes_and_sockets(request: pytest.FixtureRequest) -> Iterator[None]:
    """The test fails even if the code under test swallowed the refusal."""
    BAN.violations.clear()
    BAN.active = not any(request.node.get_closest_marker(mark) for mark in MARKS_THAT_ALLOW_PROCESSES)
    yield
    BAN.active = False
    if BAN.violations:
        pytest.fail(f"used {', '.join(sorted(set(BAN.violations)))}; mark the test 'process' if it must")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No foreign settings, no metadata look-ups by the SDKs, and a home of its own for each test."""
    for name in list(os.environ):
        if name.startswith(FOREIGN_VARIABLES) and name != "FSNAP_CRIU":
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("FSNAP_HOME", str(tmp_path / "fsnap-home"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips a ``criu`` test where it cannot run; under CI that is a failure."""
    if item.get_closest_marker("criu") is None:
        return
    _, reason = working_criu()
    if reason and os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, which CI must have", pytrace=False)
    elif reason:
        pytest.skip(reason)


@functools.cache
def working_criu() -> tuple[str, str]:
    """The CRIU to use and ``""``, or ``""`` and why there is none."""
    if os.geteuid() != 0:
        return "", "needs root"
    binary = os.environ.get("FSNAP_CRIU") or shutil.which("criu") or "/usr/local/sbin/criu"
    try:
        check = subprocess.run([binary, "check"], capture_output=True, text=True, timeout=60, check=False)
    except OSError as error:
        return "", f"needs CRIU, and {binary} cannot be run ({error.strerror}); tools/setup installs one"
    if check.returncode != 0:
        return "", f"needs CRIU, and '{binary} check' exits with {check.returncode}; tools/setup installs one"
    return binary, ""


@pytest.fixture(scope="session")
def criu_binary() -> str:
    """Path of the CRIU that works here; for tests marked ``criu``."""
    binary, reason = working_criu()
    assert binary, reason
    return binary


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The directory that holds setup.cfg."""
    return Path(__file__).resolve().parent.parent
