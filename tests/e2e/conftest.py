"""Scenarios whose leftovers end with the test, below /tmp and below /var/tmp."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.e2e.harness import WORKLOADS, Scenario

MakeScenario = Callable[..., Scenario]


@pytest.fixture
def scenario(tmp_path: Path) -> Iterator[MakeScenario]:
    """Makes the test's scenarios; without *root* below pytest's own directory, which lies below /tmp."""
    made: list[Scenario] = []

    def make(command: Sequence[str | Path], *, root: Path | None = None, cwd: Path | None = None) -> Scenario:
        scenario = Scenario(root or tmp_path / "e2e", command, cwd=cwd)
        made.append(scenario)
        return scenario

    yield make
    for each in made:
        each.close()


@pytest.fixture
def var_tmp() -> Iterator[Path]:
    """A directory of the test's own below /var/tmp, which no overlay of the capsule covers."""
    path = Path(tempfile.mkdtemp(prefix="fsnap-e2e-", dir="/var/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def c_program(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Compiles a C workload once."""
    folder = tmp_path_factory.mktemp("bin")

    def build(name: str) -> Path:
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            pytest.skip("needs a C compiler")
        program = folder / name
        if not program.exists():
            source = WORKLOADS / f"{name}.c"
            subprocess.run([compiler, "-O2", "-pthread", "-o", program, source], check=True)
        return program

    return build


@pytest.fixture(scope="session")
def java_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the compiled Java workload."""
    compiler = shutil.which("javac")
    if compiler is None or shutil.which("java") is None:
        pytest.skip("needs java and javac")
    folder = tmp_path_factory.mktemp("classes")
    subprocess.run([compiler, "-d", folder, WORKLOADS / "Grow.java"], check=True)
    return folder
