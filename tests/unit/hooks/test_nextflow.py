"""The Nextflow snippet's ``beforeScript``, in a task wrapper that is built like ``.command.run``.

Nextflow itself is not run here.  The wrapper keeps to what the snippet relies on, as of Nextflow 26.08
(``command-run.txt`` and ``AwsBatchExecutor`` in its source): the scratch directory is chosen, then comes
``beforeScript``, then the inputs are staged into the scratch directory, then ``nxf_launch`` is called
with its two outputs going through ``tee`` into ``.command.out`` and ``.command.err``, then the outputs
are copied to the work directory.  The whole wrapper comes to bash on its standard input.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fsnap import errors
from fsnap.agent.home import DEFAULT_HOME
from fsnap.cli.hooks import snippet
from fsnap.cli.main import build_parser

LIMIT_S = 90.0
JOB = "3f0c77:4"
NODE = ("unshare", "--pid", "--mount", "--net", "--fork", "--mount-proc", "--kill-child")
"""A container, as far as it matters here; its network is its own, so that no rule of CRIU's outlives it."""
UPLOADED = '"dest":"uploaded"'
"""What the journal's record of the final commit has in it."""

WRAPPER = """\
set -eu
on_exit() {{ printf %s "${{nxf_main_ret:-0}}" >{work}/.exitcode; }}
nxf_launch() {{
    {launch}
}}
nxf_trace() {{ bash -euo pipefail .command.sh & wait $!; }}
nxf_stage() {{ cp {work}/.command.* {work}/*.in .; }}
nxf_main() {{
    trap on_exit EXIT
    NXF_SCRATCH=$(mktemp -d {work}.XXXX)
    set +u
    {before}
    set -u
    [[ $NXF_SCRATCH ]] && cd "$NXF_SCRATCH"
    nxf_stage
    set +e
    (set -o pipefail; (nxf_launch | tee .command.out) 3>&1 1>&2 2>&3 | tee .command.err) 3>&1 1>&2 2>&3 &
    wait $! || nxf_main_ret=$?
    cp .command.out .command.err {work}/
    [ "${{nxf_main_ret:-0}}" = 0 ] && cp *.txt {work}/
    exit ${{nxf_main_ret:-0}}
}}
${{1:-nxf_main}}
"""

SHELL_TASK = """\
n=$(wc -l <reads.in)
for i in 1 2 3; do echo "line $i of $n"; echo "problem $i" >&2; echo $i >>result.txt; done
until [ -e {go} ]; do sleep 0.05; done
for i in 4 5 6; do echo "line $i of $n"; echo "problem $i" >&2; echo $i >>result.txt; done
"""
PYTHON_TASK = """\
#!/usr/bin/env python3
import os, sys, time
n = sys.stdin.read().count("\\n")
def say(numbers):
    for i in numbers:
        print("line", i, "of", n, flush=True)
        print("problem", i, file=sys.stderr, flush=True)
        print(i, file=open("result.txt", "a"))
say([1, 2, 3])
while not os.path.exists("{go}"):
    time.sleep(0.05)
say([4, 5, 6])
"""


@pytest.fixture
def before_script() -> str:
    """The shell part of the snippet."""
    (text,) = re.findall(r"beforeScript = '''(.*?)'''", snippet("nextflow"), re.DOTALL)
    assert "\\" not in text, "Groovy takes a backslash for itself"
    return str(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One Batch job of Nextflow's, with its work directory and the attempts at it."""

    root: Path
    variables: dict[str, str]

    @property
    def work(self) -> Path:
        return self.root / "work"

    def log(self, attempt: int) -> str:
        return (self.root / f"log-{attempt}").read_text()

    def start(self, attempt: int) -> subprocess.Popen[bytes]:
        """Start it on a machine of its own, with no file of an earlier one."""
        shutil.rmtree(self.root / "scratch", ignore_errors=True)
        (self.root / "N").unlink(missing_ok=True)
        own = {"AWS_BATCH_JOB_ATTEMPT": str(attempt), "FSNAP_HOME": str(self.root / f"home-{attempt}")}
        with (self.root / f"log-{attempt}").open("wb") as log:
            return subprocess.Popen(
                [
                    *NODE,
                    "bash",
                    "-o",
                    "pipefail",
                    "-c",
                    f"ip link set lo up; cat {self.work}/.command.run | bash",
                ],
                env={**os.environ, **self.variables, **own},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
            )

    def journal(self) -> str:
        """All records in the store."""
        return "".join(path.read_text() for path in (self.root / "S").glob("fsnap/tasks/*/journal/*.json"))

    def wait(self, attempt: int, process: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
        end = time.monotonic() + LIMIT_S
        while not ready():
            assert process.poll() is None, f"ended with {process.returncode}: {self.log(attempt)}"
            assert time.monotonic() < end, self.log(attempt)
            time.sleep(0.02)

    def read(self, name: str) -> str:
        return (self.work / name).read_text()


MakeJob = Callable[..., Job]


@pytest.fixture
def job(tmp_path: Path, before_script: str, request: pytest.FixtureRequest) -> Iterator[MakeJob]:
    """Makes the job; what still runs of it at the end is killed with its node."""

    def make(*, launch: str, script: str, criu: str = "", **variables: str) -> Job:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        plain = {
            "PATH": path,
            "AWS_BATCH_JOB_ID": JOB,
            "FSNAP_CRIU": criu,
            "FSNAP_PROVIDER": f"file:{tmp_path}/N",
        }
        made = Job(root=tmp_path, variables={**plain, **variables})
        made.work.mkdir()
        before = before_script
        for placeholder, here in (
            ("s3://my-bucket/", f"file://{tmp_path}/S/"),
            ("/scratch/", f"{tmp_path}/scratch/"),
        ):
            assert before.count(placeholder) == 1
            before = before.replace(placeholder, here)
        wrapper = WRAPPER.format(work=made.work, launch=launch, before=before)
        (made.work / ".command.run").write_text(wrapper)
        (made.work / ".command.sh").write_text(script.format(go=tmp_path / "go"))
        (made.work / "reads.in").write_text("ACGT\n" * 7)
        return made

    yield make


@pytest.mark.criu
@pytest.mark.parametrize(
    ("launch", "script", "after_commit"),
    [
        pytest.param("bash -euo pipefail .command.sh", SHELL_TASK, "exit", id="shell"),
        pytest.param(
            "/usr/bin/env python3 .command.sh <reads.in", PYTHON_TASK, "exit", id="python-with-stdin"
        ),
        pytest.param("/bin/bash .command.run nxf_trace", SHELL_TASK, "hold", id="traced-and-held"),
    ],
)
def test_a_task_goes_on_where_it_was(
    job: MakeJob, criu_binary: str, launch: str, script: str, after_commit: str
) -> None:
    made = job(launch=launch, script=script, criu=criu_binary)
    if after_commit == "exit":
        made.variables["FSNAP_AFTER_COMMIT"] = "exit"
    first = made.start(1)
    try:
        made.wait(1, first, lambda: "line 3 of 7" in made.log(1) and "problem 3" in made.log(1))
        (made.root / "N").touch()
        if after_commit == "hold":
            made.wait(1, first, lambda: UPLOADED in made.journal())
            first.kill()
            first.wait()
            assert not (made.work / ".exitcode").exists()
        else:
            assert first.wait(LIMIT_S) == errors.EXIT_CHECKPOINTED, made.log(1)
            assert made.read(".exitcode") == str(errors.EXIT_CHECKPOINTED)
            assert made.read(".command.out") == "".join(f"line {i} of 7\n" for i in range(1, 4))
    finally:
        first.kill()
    (made.root / "go").touch()
    second = made.start(2)
    try:
        assert second.wait(LIMIT_S) == 0, made.log(2)
    finally:
        second.kill()

    assert made.read(".exitcode") == "0"
    assert made.read(".command.out") == "".join(f"line {i} of 7\n" for i in range(1, 7))
    assert made.read(".command.err") == "".join(f"problem {i}\n" for i in range(1, 7))
    assert made.read("result.txt") == "1\n2\n3\n4\n5\n6\n"
    assert "line 3" in made.log(1)
    assert "line 3" not in made.log(2), "the task began anew"
    assert "restores snapshot" in made.log(2)


@pytest.mark.criu
def test_a_tasks_own_failure_is_its_exit_code(job: MakeJob, criu_binary: str) -> None:
    made = job(
        launch="bash -euo pipefail .command.sh", script="echo said; echo why >&2; exit 3", criu=criu_binary
    )
    process = made.start(1)
    assert process.wait(LIMIT_S) == 3, made.log(1)
    assert made.read(".exitcode") == "3"
    assert made.read(".command.out") == "said\n"
    assert made.read(".command.err") == "why\n"


@pytest.mark.process
@pytest.mark.parametrize("lacking", ["fsnap", "nxf_launch"])
def test_a_task_that_would_be_unprotected_is_not_started(
    before_script: str, tmp_path: Path, lacking: str
) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("bash", "mkdir", "rm", *(["fsnap"] if lacking != "fsnap" else [])):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name) or "/bin/true")
    function = "nxf_launch() { echo started; }; " if lacking != "nxf_launch" else ""
    script = before_script.replace("/scratch/", f"{tmp_path}/scratch/")
    run = subprocess.run(
        [tmp_path / "bin/bash", "-ec", f"{function}{script}\nnxf_launch"],
        env={"PATH": str(tmp_path / "bin"), "AWS_BATCH_JOB_ID": JOB},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2, run.stderr
    assert run.stdout == ""
    assert run.stderr.startswith("fsnap: ")
    assert run.stderr.count("\n") == 1


def test_the_settings_are_fsnaps(before_script: str) -> None:
    names = set(re.findall(r"\bexport (FSNAP_\w+)=", before_script))
    flags = {f"FSNAP_{name.upper()}" for name in vars(build_parser().parse_args(["run", "--", "true"]))}
    assert names
    assert names <= flags


def test_what_is_said_to_nextflow() -> None:
    text = snippet("nextflow")
    first, last = errors.EXIT_RECLAIMED_UNSAVED, errors.EXIT_CHECKPOINTED
    assert f"task.exitStatus in {first}..{last} ? 'retry'" in text
    assert f"aws.batch.volumes = ['{DEFAULT_HOME}', '/scratch']" in text
    (attempts,) = re.findall(r"maxSpotAttempts = (\d+)", text)
    assert 1 < int(attempts) <= 10, "AWS Batch allows ten attempts"
    assert f"code < {errors.EXIT_STORE} || code > {errors.EXIT_NOT_OURS}" in text
    assert text.count("{") == text.count("}")
