"""CRIU's command lines."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fsnap.criu.argv import STDIO_FD_BASE, dump_argv, gate_script, recorded_options, restore_argv

CRIU = Path("/opt/criu")
IMAGES = Path("/run/images")
GATE = Path("/run/gate.sh")


def dump(*, leave_running: bool = False, stream: bool = False) -> list[str]:
    return dump_argv(
        criu=CRIU,
        root_pid=1001,
        images=IMAGES,
        gate=GATE,
        leave_running=leave_running,
        network_lock="nftables",
        timeout_s=600,
        stream=stream,
    )


def restore(*, tcp: str = "established", cpu_check: bool = True) -> list[str]:
    return restore_argv(
        criu=CRIU,
        images=IMAGES,
        gate=GATE,
        pipes={"stdout": 11, "stderr": 22},
        network_lock="skip",
        tcp=tcp,
        cpu_check=cpu_check,
    )


def value(argv: list[str], flag: str) -> str:
    return argv[argv.index(flag) + 1]


def test_dump_names_tree_images_and_gate() -> None:
    argv = dump(leave_running=False)
    assert argv[:2] == ["/opt/criu", "dump"]
    assert value(argv, "-t") == "1001"
    assert value(argv, "-D") == "/run/images"
    assert value(argv, "--action-script") == "/run/gate.sh"
    assert value(argv, "--network-lock") == "nftables"
    assert value(argv, "--timeout") == "600"


def test_only_a_periodic_dump_leaves_the_tree_running() -> None:
    assert "--leave-running" not in dump(leave_running=False)
    assert dump(leave_running=True) == [*dump(leave_running=False), "--leave-running"]


@pytest.mark.parametrize("leave_running", [True, False])
def test_what_must_never_be_there(leave_running: bool) -> None:
    """Stopped trees resumed by hand keep CRIU's locks; a shell job moves the failure to the restore."""
    for word in ("--leave-stopped", "--shell-job", "--tcp-close", "--track-mem"):
        assert word not in dump(leave_running=leave_running)
        assert word not in restore()


def test_restore_inherits_the_new_pipes_under_the_old_ones_inodes() -> None:
    argv = restore()
    pairs = [argv[n + 1] for n, word in enumerate(argv) if word == "--inherit-fd"]
    assert pairs == [f"fd[{STDIO_FD_BASE}]:pipe:[11]", f"fd[{STDIO_FD_BASE + 1}]:pipe:[22]"]


def test_restore_with_connections_kept_or_closed() -> None:
    assert "--tcp-established" in restore()
    closed = restore(tcp="close")
    assert "--tcp-close" in closed
    assert "--tcp-established" not in closed


def test_the_cpu_is_checked_only_where_the_dump_recorded_one() -> None:
    assert "--cpu-cap=cpu" in restore()
    assert "--cpu-cap=cpu" not in restore(cpu_check=False)


def test_both_sides_agree_on_what_must_be_given_twice() -> None:
    for word in ("--manage-cgroups=ignore", "--file-locks", "--ext-unix-sk"):
        assert word in dump(leave_running=False)
        assert word in restore()


def test_recorded_options_hold_no_path_and_no_number() -> None:
    kept = recorded_options(dump(leave_running=True))
    assert "--leave-running" in kept
    assert "--link-remap" in kept
    assert not {word for word in kept if word.startswith("/") or word in ("1001", "600", "dump.log")}
    assert not {"-t", "-D", "-o", "--action-script", "--timeout"} & set(kept)


@pytest.mark.process
@pytest.mark.parametrize("name", ["plain", "with space", "it's", 'a"b$c`d', "back\\slash"])
@pytest.mark.parametrize(("verdict", "code"), [("go", 0), ("no", 1), ("", 1)])
def test_gate_script_asks_and_obeys(tmp_path: Path, name: str, verdict: str, code: int) -> None:
    run_dir = tmp_path / name
    run_dir.mkdir()
    (run_dir / "gate.ans").write_text(f"{verdict}\n")
    (run_dir / "gate.req").touch()
    script = run_dir / "gate.sh"
    script.write_text(gate_script(run_dir))
    for action in ("post-dump", "post-restore"):
        ran = subprocess.run(["sh", script], env={"CRTOOLS_SCRIPT_ACTION": action}, check=False)
        assert ran.returncode == code
        assert (run_dir / "gate.req").read_text() == f"{action}\n"


@pytest.mark.process
@pytest.mark.parametrize("action", ["pre-dump", "network-lock", "setup-namespaces", "post-resume"])
def test_gate_script_lets_every_other_stage_pass(tmp_path: Path, action: str) -> None:
    script = tmp_path / "gate.sh"
    script.write_text(gate_script(tmp_path))
    ran = subprocess.run(["sh", script], env={"CRTOOLS_SCRIPT_ACTION": action}, check=False)
    assert ran.returncode == 0
    assert not (tmp_path / "gate.req").exists()


def test_a_streamed_dump_is_started_in_its_folder() -> None:
    """The address of a socket is short, the path of the images may be long."""
    argv = dump(stream=True)
    assert argv[argv.index("-D") + 1] == "."
    assert "--stream" in recorded_options(argv)
