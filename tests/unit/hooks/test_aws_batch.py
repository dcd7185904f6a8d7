"""The script for AWS Batch is run with an ``aws`` that writes down what it is asked, and that is judged here:
against the SDK's own service models, a server that speaks the protocol, and fsnap's flags.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore import xform_name
from botocore.config import Config
from botocore.session import Session
from botocore.validate import ParamValidator

from fsnap import errors
from fsnap.agent.home import DEFAULT_HOME
from fsnap.cli.hooks import snippet
from fsnap.cli.main import build_parser
from fsnap.cli.run import settings_from
from fsnap.stores._s3client import S3Api
from tests import servers
from tests.unit.hooks.fake_aws import ROLE_ARN

pytestmark = pytest.mark.process

VALUES = {
    "AWS_REGION": "eu-central-1",
    "BUCKET": "a-bucket",
    "IMAGE": "registry.example/image:1",
    "QUEUE": "a-queue",
    "ROLE": "jobs",
    "COMPUTE_ENV": "an-environment",
}
PERMISSIONS = {
    "get_object": "s3:GetObject",
    "head_object": "s3:GetObject",
    "put_object": "s3:PutObject",
    "delete_object": "s3:DeleteObject",
    "list_objects_v2": "s3:ListBucket",
}
"""Service Authorization Reference, Amazon S3: the action that each call needs."""
OF_THE_COMMAND = {"--query", "--output", "--cli-input-json"}
"""Options of ``aws`` itself."""

Run = Callable[[Mapping[str, str]], subprocess.CompletedProcess[str]]


@functools.cache
def service_model(service: str) -> Any:
    """The SDK's description of *service*, which takes a while to load."""
    return Session().get_service_model(service)


class Call:
    """One call of ``aws``: service, operation and its parameters, as the SDK takes them."""

    def __init__(self, words: list[str]) -> None:
        self.service, self.operation = words[:2]
        model = service_model(self.service)
        names = {xform_name(name, "-"): name for name in model.operation_names}
        self.shape = model.operation_model(names[self.operation]).input_shape
        options = dict(zip(words[2::2], words[3::2], strict=True))
        self.parameters: dict[str, Any] = json.loads(options.get("--cli-input-json", "{}"))
        members = {"--" + xform_name(name, "-"): name for name in self.shape.members}
        for option in options.keys() - OF_THE_COMMAND:
            value = options[option]
            is_list = self.shape.members[members[option]].type_name == "list"
            self.parameters[members[option]] = [value] if is_list else value

    @property
    def name(self) -> str:
        return f"{self.service} {self.operation}"


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Run the printed script with some variables; its calls are in ``tmp_path / "calls"``."""
    folder = tmp_path / "bin"
    folder.mkdir()
    fake = Path(__file__).with_name("fake_aws.py")
    (folder / "aws").write_text(f'#!/bin/sh\nexec {sys.executable} {fake} "$@"\n')
    (folder / "aws").chmod(0o755)
    temporary = tmp_path / "tmp"
    temporary.mkdir()

    def run(values: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        plain = {"PATH": f"{folder}:{os.environ['PATH']}", "TMPDIR": str(temporary)}
        return subprocess.run(
            ["bash"],
            input=snippet("aws-batch"),
            env={**plain, "AWS_CALLS": str(tmp_path / "calls"), **values},
            capture_output=True,
            text=True,
            check=False,
        )

    yield run
    assert not list(temporary.iterdir()), "the script leaves files behind"


@pytest.fixture
def calls(run: Run, tmp_path: Path) -> list[Call]:
    result = run(VALUES)
    assert result.returncode == 0, result.stderr
    return read_calls(tmp_path)


@pytest.fixture
def job_definition(calls: list[Call]) -> dict[str, Any]:
    return only(calls, "batch register-job-definition").parameters


def read_calls(tmp_path: Path) -> list[Call]:
    return [Call(json.loads(line)) for line in (tmp_path / "calls").read_text().splitlines()]


def only(calls: list[Call], name: str) -> Call:
    (call,) = [call for call in calls if call.name == name]
    return call


def outside_enums(shape: Any, value: Any, where: str) -> Iterator[str]:
    """Strings that the model's enumerations lack, which the SDK does not check."""
    if shape.type_name == "structure":
        for name, inner in value.items():
            yield from outside_enums(shape.members[name], inner, f"{where}.{name}")
    elif shape.type_name == "list":
        for inner in value:
            yield from outside_enums(shape.member, inner, f"{where}[]")
    elif shape.type_name == "string" and shape.enum and value not in shape.enum:
        yield f"{where}: {value} is none of {shape.enum}"


def test_the_calls_are_those_that_the_text_names(calls: list[Call]) -> None:
    assert [call.name for call in calls] == [
        "ec2 describe-launch-templates",
        "ec2 create-launch-template",
        "batch update-compute-environment",
        "iam put-role-policy",
        "iam get-role",
        "batch register-job-definition",
        "batch submit-job",
    ]


def test_every_document_fits_the_service_model(calls: list[Call]) -> None:
    for call in calls:
        report = ParamValidator().validate(call.parameters, call.shape)
        assert not report.has_errors(), f"{call.name}: {report.generate_report()}"
        assert not list(outside_enums(call.shape, call.parameters, call.name))


def test_the_check_finds_a_wrong_document(calls: list[Call]) -> None:
    call = only(calls, "batch register-job-definition")
    call.parameters["containerProperties"]["linuxParameters"] = {"capabilities": {"add": ["SYS_ADMIN"]}}
    assert ParamValidator().validate(call.parameters, call.shape).has_errors()
    call.parameters["type"] = "containers"
    assert list(outside_enums(call.shape, {"type": "containers"}, "job definition"))


def test_batch_offers_no_single_capability() -> None:
    """Why the job is privileged: should this fail, Batch has learnt something better."""
    model = service_model("batch")
    for shape in (
        "LinuxParameters",
        "ContainerProperties",
        "TaskContainerProperties",
        "EksContainerSecurityContext",
    ):
        assert not [name for name in model.shape_for(shape).members if "capabilit" in name.lower()]
        assert shape == "LinuxParameters" or "privileged" in model.shape_for(shape).members


@pytest.mark.server
def test_a_server_takes_them(calls: list[Call], tmp_path: Path) -> None:
    with servers.ministack(tmp_path / "server") as server:

        def client(service: str) -> Any:
            return boto3.client(
                service,
                endpoint_url=server.endpoint,
                region_name=VALUES["AWS_REGION"],
                aws_access_key_id=servers.ACCESS_KEY,
                aws_secret_access_key=servers.SECRET_KEY,
                config=Config(retries={"total_max_attempts": 1}),
            )

        make_what_is_there(client)
        for call in calls[1:]:
            getattr(client(call.service), call.operation.replace("-", "_"))(**call.parameters)
        batch = client("batch")
        (made,) = batch.describe_job_definitions(jobDefinitionName="fsnap")["jobDefinitions"]
        wanted = only(calls, "batch register-job-definition").parameters
        assert made["containerProperties"] == wanted["containerProperties"]
        template = client("ec2").describe_launch_template_versions(LaunchTemplateName="fsnap")
        data = template["LaunchTemplateVersions"][0]["LaunchTemplateData"]
        assert data["MetadataOptions"]["HttpPutResponseHopLimit"] == 2


def make_what_is_there(client: Callable[[str], Any]) -> None:
    """The role, the compute environment and the queue that the text takes for granted."""
    client("iam").create_role(RoleName=VALUES["ROLE"], AssumeRolePolicyDocument="{}")
    batch = client("batch")
    batch.create_compute_environment(
        computeEnvironmentName=VALUES["COMPUTE_ENV"],
        type="MANAGED",
        computeResources={"type": "SPOT", "maxvCpus": 16, "subnets": ["subnet-1"], "instanceTypes": ["c6id"]},
    )
    batch.create_job_queue(
        jobQueueName=VALUES["QUEUE"],
        priority=1,
        computeEnvironmentOrder=[{"order": 1, "computeEnvironment": VALUES["COMPUTE_ENV"]}],
    )


@pytest.mark.parametrize("missing", sorted(VALUES.keys() - {"COMPUTE_ENV"}))
def test_a_missing_variable_is_named_before_anything_is_done(run: Run, tmp_path: Path, missing: str) -> None:
    result = run({name: value for name, value in VALUES.items() if name != missing})
    assert result.returncode != 0
    assert missing in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "calls").exists()


def test_what_is_there_is_left_alone(run: Run, tmp_path: Path) -> None:
    result = run({**VALUES, "COMPUTE_ENV": "", "AWS_HAS": "launch-template"})
    assert result.returncode == 0, result.stderr
    names = [call.name for call in read_calls(tmp_path)]
    assert "ec2 create-launch-template" not in names
    assert "batch update-compute-environment" not in names
    assert names[-1] == "batch submit-job"


def test_containers_reach_the_metadata_service(calls: list[Call]) -> None:
    data = only(calls, "ec2 create-launch-template").parameters["LaunchTemplateData"]
    assert data["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 2}
    resources = only(calls, "batch update-compute-environment").parameters["computeResources"]
    assert resources["launchTemplate"] == {"launchTemplateName": "fsnap", "version": "$Latest"}


def test_the_policy_allows_what_the_store_does_and_no_more(
    calls: list[Call], job_definition: dict[str, Any]
) -> None:
    call = only(calls, "iam put-role-policy")
    policy = json.loads(call.parameters["PolicyDocument"])
    assert policy["Version"] == "2012-10-17"
    allowed: dict[str, set[str]] = {}
    for statement in policy["Statement"]:
        assert statement["Effect"] == "Allow"
        assert "Condition" not in statement
        actions = statement["Action"]
        allowed.setdefault(statement["Resource"], set()).update(
            [actions] if isinstance(actions, str) else actions
        )
    used = {PERMISSIONS[name] for name in vars(S3Api) if not name.startswith("_")}
    store = environment(job_definition)["FSNAP_STORE"].removeprefix("s3://")
    assert allowed == {
        f"arn:aws:s3:::{store}/*": used - {"s3:ListBucket"},
        f"arn:aws:s3:::{VALUES['BUCKET']}": {"s3:ListBucket"},
    }
    assert call.parameters["RoleName"] == VALUES["ROLE"]
    assert job_definition["containerProperties"]["jobRoleArn"] == ROLE_ARN


def environment(job_definition: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in job_definition["containerProperties"]["environment"]}


def test_the_job_is_what_fsnap_understands(
    job_definition: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    container = job_definition["containerProperties"]
    variables = environment(job_definition)
    program, *words = container["command"]
    assert program == "fsnap"
    arguments = build_parser().parse_args(words)
    flags = {f"FSNAP_{name.upper()}" for name in vars(arguments)}
    assert {name for name in variables if name.startswith("FSNAP_")} <= flags
    places = {mount["sourceVolume"]: mount["containerPath"] for mount in container["mountPoints"]}
    assert places == {"fsnap-home": DEFAULT_HOME, "scratch": variables["FSNAP_STATE_DIR"]}

    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_BATCH_JOB_ID", "3f0c77")
    monkeypatch.setenv("AWS_BATCH_JOB_ATTEMPT", "2")
    monkeypatch.setenv("FSNAP_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("FSNAP_HOME", DEFAULT_HOME)
    settings = settings_from(arguments, {})
    assert settings.task == "3f0c77"
    assert settings.attempt is not None
    assert settings.attempt.number == 2
    assert settings.store_url == f"s3://{VALUES['BUCKET']}/fsnap"
    assert settings.provider == "aws"
    assert settings.config.after_commit == "hold"
    assert settings.command == ("bash", "-c", "Ref::script")


def test_the_script_is_a_parameter_of_the_job(calls: list[Call], job_definition: dict[str, Any]) -> None:
    job = only(calls, "batch submit-job").parameters
    assert job["jobDefinition"] == job_definition["jobDefinitionName"]
    assert job["jobQueue"] == VALUES["QUEUE"]
    assert "Ref::script" in job_definition["containerProperties"]["command"]
    assert job["parameters"].keys() == job_definition["parameters"].keys() == {"script"}
    for script in (job["parameters"]["script"], job_definition["parameters"]["script"]):
        subprocess.run(["bash", "-n", "-c", script], check=True)


def verdict(strategy: Mapping[str, Any], outcome: Mapping[str, str]) -> str:
    """What Batch does: the first rule all of whose conditions match; else RETRY (EvaluateOnExit)."""
    for rule in strategy["evaluateOnExit"]:
        patterns = {name: pattern for name, pattern in rule.items() if name != "action"}
        if all(matches(outcome[name], pattern) for name, pattern in patterns.items()):
            return str(rule["action"])
    return "RETRY"


def matches(text: str, pattern: str) -> bool:
    return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern


@pytest.mark.parametrize(
    ("exit_code", "expected"),
    [
        (str(errors.EXIT_RECLAIMED_UNSAVED), "RETRY"),
        (str(errors.EXIT_RESTORE_FAILED), "RETRY"),
        (str(errors.EXIT_CHECKPOINTED), "RETRY"),
        (str(errors.EXIT_USAGE), "EXIT"),
        (str(errors.EXIT_NO_SUCH_COMMAND), "EXIT"),
        (str(errors.EXIT_STORE), "EXIT"),
        (str(errors.EXIT_NOT_OURS), "EXIT"),
        ("1", "EXIT"),
        ("17", "EXIT"),
        ("137", "EXIT"),
    ],
)
def test_which_ends_are_tried_again(job_definition: dict[str, Any], exit_code: str, expected: str) -> None:
    outcome = {
        "onStatusReason": "Essential container in task exited",
        "onReason": "",
        "onExitCode": exit_code,
    }
    assert verdict(job_definition["retryStrategy"], outcome) == expected


def test_a_lost_instance_is_tried_again(job_definition: dict[str, Any]) -> None:
    outcome = {"onStatusReason": "Host EC2 (instance i-0abc) terminated.", "onReason": "", "onExitCode": ""}
    strategy = job_definition["retryStrategy"]
    assert verdict(strategy, outcome) == "RETRY"
    assert strategy["attempts"] == 10
    assert len(strategy["evaluateOnExit"]) <= 5


def test_shellcheck_finds_nothing() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    result = subprocess.run(
        ["shellcheck", "-"], input=snippet("aws-batch"), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout
