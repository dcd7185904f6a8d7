"""The ban on processes and sockets holds, and a test that needs CRIU cannot be skipped under CI."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

SAMPLE = """
import contextlib, os, socket, subprocess
import pytest

def test_process():
    subprocess.run(["true"])

def test_fork():
    os.fork()

def test_socket():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))

def test_swallowed():
    with contextlib.suppress(RuntimeError):
        os.system("true")

def test_socketpair():
    for end in socket.socketpair():
        end.close()

@pytest.mark.process
def test_marked():
    subprocess.run(["true"], check=True)

def test_environment():
    assert "AWS_PROFILE" not in os.environ
    assert os.environ["FSNAP_HOME"] != "/elsewhere"

@pytest.mark.criu
def test_criu():
    pass
"""


@pytest.fixture
def sample(tmp_path: Path, checkout: Path) -> Path:
    shutil.copy(checkout / "tests/conftest.py", tmp_path)
    (tmp_path / "test_sample.py").write_text(SAMPLE)
    return tmp_path


def verdicts(sample: Path, **variables: str) -> dict[str, str]:
    """Test name to PASSED, FAILED, ERROR (at teardown) or SKIPPED; the last one printed counts."""
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "--tb=no", "test_sample.py"]
    environment = {**os.environ, "AWS_PROFILE": "x", "FSNAP_HOME": "/elsewhere", **variables}
    run = subprocess.run(command, cwd=sample, env=environment, capture_output=True, text=True, check=False)
    found = {}
    for line in run.stdout.splitlines():
        name, _, rest = line.partition("test_sample.py::")[2].partition(" ")
        if name and not line.startswith(("FAILED", "ERROR")):
            found[name] = rest.split()[0]
    return found


def test_the_ban(sample: Path) -> None:
    found = verdicts(sample, CI="", FSNAP_CRIU="/nonexistent")
    assert found == {
        "test_process": "ERROR",
        "test_fork": "ERROR",
        "test_socket": "ERROR",
        "test_swallowed": "ERROR",
        "test_socketpair": "PASSED",
        "test_marked": "PASSED",
        "test_environment": "PASSED",
        "test_criu": "SKIPPED",
    }


def test_a_missing_criu_fails_under_ci(sample: Path) -> None:
    assert verdicts(sample, CI="true", FSNAP_CRIU="/nonexistent")["test_criu"] in ("FAILED", "ERROR")
