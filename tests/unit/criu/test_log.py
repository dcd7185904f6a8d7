"""From a CRIU log to a cause: one line of each failure that was seen."""

from __future__ import annotations

import pytest

from fsnap.criu.log import KNOWN, diagnose

NOISE = "(00.000100) Error (criu/rlimit.c:21): rlimit: Can't setup RLIMIT_NOFILE for self\n"
TUN = "(00.000200) Error (criu/tun.c:85): tun: Unable to create tun: No such file or directory\n"
LAST = "(00.900000) Error (criu/cr-dump.c:2098): Dumping FAILED.\n"

SAMPLES = {
    "Unknown shit 600 (anon_inode:[io_uring])": ("io-uring", "io_uring"),
    "send_fds failed (-22)": ("bad-fd", "io_uring"),
    "Can't dump file 7 of that type [600] (anon anon_inode:[userfaultfd])": ("bad-fd", "descriptor 7"),
    "Can't dump file 3 of that type [600] (anon anon_inode:bpf-map)": ("bad-fd", "bpf-map"),
    "Can't bind inet socket back: Cannot assign requested address": ("tcp-bind", "address"),
    "External socket is used. Consider using --ext-unix-sk option.": ("unix-socket", "outside"),
    "Can't dump half of stream unix connection. name: (none); peer name: /run/x.sock": (
        "unix-stream",
        "/run/x.sock",
    ),
    "Can't dump ghost file /tmp/sort123 of 5368709120 size, increase limit": (
        "ghost-limit",
        "/tmp/sort123 of 5368709120",
    ),
    "SysVIPC shmem map @0x7f0000000000 doesn't live in IPC ns": ("sysv-shm", "SysV"),
    "Can't lookup mount=29 for fd=1 path=/dev/pts/0": ("outside-tty", "descriptor 1 is /dev/pts/0"),
    "tty: Don't have tty to inherit session from, aborting": ("outside-tty", "terminal"),
    "Can't dump nested user namespace for 1234": ("nested-namespace", "namespaces"),
    "Can't dump nested pid namespace for 1234": ("nested-namespace", "namespaces"),
    "Can't restore sub-task in NS (cflags 20000)": ("nested-namespace", "namespaces"),
    "Unseizable non-zombie 1002 found, state t, err -1/1": ("traced", "1002"),
    "Can't get rlimit 0: Operation not permitted": ("capability", "CAP_SYS_RESOURCE"),
    "Can't fork for 1001: File exists": ("pid-taken", "1001"),
    "Can't open file tmp/hsperfdata/1001 on restore: No such file or directory": (
        "missing-file",
        "tmp/hsperfdata/1001",
    ),
    "File usr/bin/bwa has bad size 100 (expect 200)": ("changed-file", "usr/bin/bwa has another size"),
    "File work has bad mode 041755 (expect 040755)": ("changed-file", "work has another mode"),
    "File usr/lib/libc.so.6 has bad build-ID (0xaa) (expect 0xbb)": ("changed-file", "build-ID"),
    "sys_prctl(PR_SET_MM, PR_SET_MM_MAP) failed with -13": ("not-executable", "not executable"),
    "Unable to spice data: No space left on device": ("no-space", "disk"),
    "CPU instruction capabilities do not match run time": ("cpu", "CPU"),
    "Tracking memory is not available. Consider omitting --track-mem option.": ("soft-dirty", "dirty"),
    "Unable to find root task": ("task-gone", "gone"),
    "Could not initialize kernel features detection.": ("kernel-features", "loopback"),
}


@pytest.mark.parametrize("line", SAMPLES)
def test_each_known_failure(line: str) -> None:
    code, told = SAMPLES[line]
    log = f"{NOISE}(00.010000) ----\n{TUN}(00.500000)   1001: Error (criu/x.c:1): {line}\n{LAST}"
    cause = diagnose(log)
    assert cause.code == code
    assert told in f"{cause.message} {cause.hint}"
    assert "{" not in cause.message


def test_every_known_failure_has_a_sample() -> None:
    assert {known.code for known in KNOWN} == {code for code, _ in SAMPLES.values()}


def test_only_a_connection_that_can_not_be_bound_is_tried_again_closed() -> None:
    assert [known.code for known in KNOWN if known.closes_tcp] == ["tcp-bind"]


def test_an_unknown_failure_is_told_by_its_last_error_without_stamps() -> None:
    log = f"{NOISE}(00.5) Error (criu/a.c:1): first\n(00.6)   1001: Error (criu/b.c:2): second\nWarn: third\n"
    cause = diagnose(log)
    assert cause.code == "criu"
    assert cause.message == "Error (criu/b.c:2): second"


@pytest.mark.parametrize("log", ["", NOISE, NOISE + TUN, "(00.1) Warn  (criu/x.c:1): nothing\n"])
def test_a_log_without_an_error_says_so(log: str) -> None:
    cause = diagnose(log)
    assert (cause.code, cause.message) == ("criu", "CRIU ended without a word")


def test_an_endless_line_is_cut() -> None:
    assert len(diagnose("Error: " + "x" * 10_000).message) <= 300


def test_braces_in_a_file_name_are_no_format() -> None:
    assert "{a}{0}" in diagnose("Error: Can't open file {a}{0} on restore: No such file or directory").message
