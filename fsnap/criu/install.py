"""Which CRIU, and what it can do here."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path

from fsnap.criu.netlock import NO_LOCK
from fsnap.errors import UnfitMachine

OLDEST = (4, 1)
"""Older ones stop at start-up on Linux 6.13 and newer (vDSO layout)."""

CHECK_TIMEOUT_S = 30.0


@functools.cache
def find_criu() -> Path:
    """``FSNAP_CRIU``, or ``criu`` on the PATH or in ``/usr/local/sbin``; :class:`UnfitMachine`."""
    named = os.environ.get("FSNAP_CRIU")
    places = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
    found = named or shutil.which("criu", path=places)
    if found is None:
        raise UnfitMachine(
            "there is no criu on this machine", hint="Install CRIU 4.1 or newer (tools/setup does)."
        )
    if not os.access(found, os.X_OK) or os.path.isdir(found):
        raise UnfitMachine(f"FSNAP_CRIU names {found}, which is no program")
    return Path(found).resolve()


@functools.cache
def criu_version(criu: Path) -> str:
    """Its version, such as ``4.2.1``; :class:`UnfitMachine` when it is too old or no CRIU."""
    answer = _run(criu, "--version")
    found = re.search(r"Version:\s*(\d+)\.(\d+)(\S*)", answer.stdout)
    if not found:
        raise UnfitMachine(f"{criu} does not say its version")
    if (int(found[1]), int(found[2])) < OLDEST:
        raise UnfitMachine(f"{criu} is version {found[1]}.{found[2]}; 4.1 is the oldest that works here")
    return f"{found[1]}.{found[2]}{found[3]}"


@functools.cache
def network_lock(criu: Path) -> str:
    """``nftables`` where the kernel has it, else ``skip`` (a busy peer may then see a reset)."""
    return "nftables" if has_feature(criu, "network_lock_nftables") else NO_LOCK


def look_ahead() -> None:
    """Begin to find out what :func:`network_lock` tells: CRIU takes a tenth of a second to look."""
    threading.Thread(target=_look, name="criu-check", daemon=True).start()


def _look() -> None:
    with contextlib.suppress(UnfitMachine):  # whoever needs it will be told
        network_lock(find_criu())


def has_feature(criu: Path, feature: str) -> bool:
    """``criu check --feature``."""
    return _run(criu, "check", "--feature", feature).returncode == 0


def check(criu: Path) -> None:
    """:class:`UnfitMachine` unless ``criu check`` is satisfied with this kernel."""
    answer = _run(criu, "check")
    if answer.returncode != 0:
        lines = (answer.stdout + answer.stderr).strip().splitlines() or ["no output"]
        raise UnfitMachine(f"{criu} can't work on this kernel: {lines[-1]}")


def _run(criu: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [str(criu), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CHECK_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise UnfitMachine(f"{criu} can't be run: {problem}") from problem
