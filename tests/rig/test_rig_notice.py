"""A notice of EC2 reaches a program in a node, where EC2's own address is."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools.rig import Rig

pytestmark = pytest.mark.server

WATCH = """
import json, sys, threading
from fsnap.clock import SystemClock
from fsnap.notices.providers import open_source

done = threading.Event()
def post(event, seen_mono_s):
    print(json.dumps([type(event).__name__, event.notice_id, getattr(event, "window_ms", None)]), flush=True)
    if type(event).__name__ == "NoticeCancelled":
        done.set()

source = open_source("auto", clock=SystemClock(), env={})
print(json.dumps(source.name), flush=True)
source.start(post)
done.wait(60)
source.stop()
"""


def test_a_notice_reaches_a_program_in_a_node(rig: Rig, checkout: Path) -> None:
    node, other = rig.node("a"), rig.node("b")
    service = rig.metadata(node=node)
    watch = [sys.executable, "-c", WATCH]
    program = node.popen(watch, cwd=checkout, stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    assert json.loads(program.stdout.readline()) == "aws"
    service.tell("notice", "--window", "30")
    kind, identity, window_ms = json.loads(program.stdout.readline())
    assert kind == "Notice"
    assert 20_000 < window_ms <= 31_000
    service.tell("cancel")
    assert json.loads(program.stdout.readline()) == ["NoticeCancelled", identity, None]
    assert program.wait(timeout=60) == 0
    program.stdout.close()
    probe = "from fsnap.notices.providers import *; from fsnap.clock import *\n"
    probe += "print(open_source('auto', clock=SystemClock(), env={}).name)"
    assert other.exec([sys.executable, "-c", probe], cwd=checkout).stdout == "none\n"


def test_a_metadata_service_outside_serves_a_node_and_may_kill_it(rig: Rig, checkout: Path) -> None:
    node = rig.node("a")
    service = rig.metadata()
    ask = "import sys; sys.path.append('tools'); from _metadata.cli import main; main(sys.argv[1:])"
    where = ["--address", service.address, "--port", str(service.port)]
    status = json.loads(node.exec([sys.executable, "-c", ask, "status", *where], cwd=checkout).stdout)
    assert status["instance_id"] == service.instance_id
    left_s = float(service.tell("notice", "--window", "0").split()[-2])
    node.destroy_at(time.monotonic() + left_s)
    limit = time.monotonic() + 20
    while node.alive:
        assert time.monotonic() < limit
        time.sleep(0.01)
