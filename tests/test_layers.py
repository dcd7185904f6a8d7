"""The import contract of setup.cfg holds, and starting the command line loads nothing heavy."""

from __future__ import annotations

import configparser
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

# Each costs tens to hundreds of milliseconds, which `fsnap status` and every wrapped task would pay.
HEAVY = {"azure", "boto3", "botocore", "cryptography", "google", "numpy", "transitions", "yaml", "zstandard"}


def test_import_contract(checkout: Path) -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run(
        [linter, "--config", "setup.cfg", "--no-cache"],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_command_line_starts_without_heavy_modules(checkout: Path) -> None:
    if not (checkout / "fsnap/cli/main.py").exists():
        pytest.skip("there is no fsnap/cli/main.py yet")
    # Path configuration files of installed packages may import things before any code of ours does.
    code = "import sys; before = set(sys.modules); import fsnap.cli.main; print(*set(sys.modules) - before)"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in run.stdout.split()}
    assert "fsnap" in loaded
    assert not loaded & HEAVY


def test_setup_lists_every_package(checkout: Path) -> None:
    config = configparser.ConfigParser()
    config.read(checkout / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    found = {
        str(init.parent.relative_to(checkout)).replace("/", ".")
        for init in (checkout / "fsnap").rglob("__init__.py")
    }
    assert listed == found | {"fsnap.statecharts"}
