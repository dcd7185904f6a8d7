"""What the demonstration needs around it: a directory, an environment, a store, and nodes.

All of it goes with the context that made it.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from _demo.nodes import Machine, RigMachine, SimpleMachine
from tests.servers import seaweedfs
from tools.rig import Rig, RigError

CHECKOUT = Path(__file__).resolve().parents[2]
FOREIGN = ("AWS_", "AZURE_", "BATCH_", "FSNAP_", "GOOGLE_", "SLURM_")
"""Variables that would lead the demonstration to somebody's cloud, scheduler or settings."""

REFERENCE = "node-0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What both executions of the task are given."""

    url: str
    env: Mapping[str, str]
    """For processes on nodes, beside this process's own."""
    machine: Callable[[str], Machine]
    server: str
    """What the store is, beside its URL; empty for a directory."""
    simple: str
    """Why the nodes are simple ones; empty when they are not."""


@contextmanager
def set_stage(*, s3: bool, simple: bool) -> Iterator[Stage]:
    """Make everything; remove it at the end."""
    _clean_environment()
    with ExitStack() as stack:
        work = Path(tempfile.mkdtemp(prefix="fsnap-demo."))
        stack.callback(shutil.rmtree, work)
        os.environ.pop("TMPDIR", None)  # the task's temporary files belong in /tmp, which travels
        server = stack.enter_context(seaweedfs(work / "s3")) if s3 else None
        store = work / "store"
        store.mkdir()
        env: dict[str, str] = {}
        rig, why = (None, "asked for") if simple else _open_rig(stack, [CHECKOUT, store])
        if server is not None:
            os.environ.update(server.environment())
            if rig is not None:
                env["AWS_ENDPOINT_URL"] = f"http://{rig.forward(int(server.endpoint.rpartition(':')[2]))}"

        def machine(name: str) -> Machine:
            made: Machine = SimpleMachine(work, name) if rig is None else RigMachine(rig, name)
            stack.callback(made.destroy)
            return made

        url = f"file://{store}" if server is None else server.url("demo")
        about = "" if server is None else f"SeaweedFS, {server.endpoint}"
        yield Stage(url=url, env=env, machine=machine, server=about, simple=why)


def _clean_environment() -> None:
    for name in list(os.environ):
        if name.startswith(FOREIGN) and name != "FSNAP_CRIU":
            del os.environ[name]
    os.environ["FSNAP_CONFIG"] = os.devnull
    # The task's python3 is the one that is known to be new enough.
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"


def _open_rig(stack: ExitStack, binds: list[Path]) -> tuple[Rig | None, str]:
    """The rig, or why there can be none here."""
    try:
        rig = stack.enter_context(Rig(binds=binds))
        RigMachine(rig, "probe").destroy()
    except (RigError, OSError) as problem:
        return None, str(problem)
    return rig, ""
