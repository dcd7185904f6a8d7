"""``tools/metadata``: the protocol over real HTTP, its faults, and its command line."""

from __future__ import annotations

import http.client
import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from tools.rig import MetadataService, RigError

pytestmark = pytest.mark.server

TOKEN_PATH = "/latest/api/token"
META = "/latest/meta-data"
TTL = "X-aws-ec2-metadata-token-ttl-seconds"


@pytest.fixture(scope="module")
def shared() -> Iterator[MetadataService]:
    """One server for tests that only ask."""
    service = MetadataService("--instance-type", "c7g.xlarge", "--region", "us-west-2", "--role", "batch")
    yield service
    service.close()


@pytest.fixture
def own() -> Iterator[MetadataService]:
    """A server for one test."""
    service = MetadataService("--seed", "1")
    yield service
    service.close()


class Reply:
    """An answer, read whole."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self.text = answer.read().decode()


def ask(
    service: MetadataService, path: str, headers: Mapping[str, str] | None = None, method: str = "GET"
) -> Reply:
    connection = http.client.HTTPConnection(service.address, service.port, timeout=20)
    try:
        connection.request(method, path, headers=dict(headers or {}))
        return Reply(connection.getresponse())
    finally:
        connection.close()


def token(service: MetadataService, ttl_s: str = "300", **headers: str) -> Reply:
    return ask(service, TOKEN_PATH, {TTL: ttl_s, **headers}, "PUT")


def get(service: MetadataService, path: str) -> Reply:
    return ask(service, path, {"X-aws-ec2-metadata-token": token(service).text})


def test_a_token_is_needed_and_must_be_one_that_was_given(shared: MetadataService) -> None:
    path = f"{META}/instance-id"
    assert ask(shared, path).status == 401
    assert ask(shared, path, {"X-aws-ec2-metadata-token": "AQAEAsomething=="}).status == 401
    assert get(shared, path).text == shared.instance_id


def test_a_token_ends(shared: MetadataService) -> None:
    given = token(shared, "1")
    assert (given.status, given.headers[TTL]) == (200, "1")
    header = {"X-aws-ec2-metadata-token": given.text}
    limit = time.monotonic() + 20
    while (status := ask(shared, f"{META}/instance-id", header).status) == 200:
        assert time.monotonic() < limit
        time.sleep(0.1)
    assert status == 401


@pytest.mark.parametrize("ttl_s", ["0", "21601", "-1", "soon", ""])
def test_a_token_needs_a_sensible_life(shared: MetadataService, ttl_s: str) -> None:
    assert token(shared, ttl_s).status == 400


def test_a_token_is_not_given_without_its_header_nor_through_a_proxy(shared: MetadataService) -> None:
    assert ask(shared, TOKEN_PATH, method="PUT").status == 400
    assert token(shared, **{"X-Forwarded-For": "10.0.0.1"}).status == 403
    assert token(shared, **{"x-forwarded-for": "10.0.0.1"}).status == 403


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_other_methods_are_refused(shared: MetadataService, method: str) -> None:
    assert ask(shared, f"{META}/instance-id", method=method).status == 405


def test_the_instance_is_described(shared: MetadataService) -> None:
    assert get(shared, f"{META}/instance-type").text == "c7g.xlarge"
    assert get(shared, f"{META}/placement/region").text == "us-west-2"
    assert get(shared, f"{META}/instance-life-cycle").text == "spot"
    assert "placement/" in get(shared, f"{META}/").text.splitlines()
    document = json.loads(get(shared, "/latest/dynamic/instance-identity/document").text)
    assert (document["instanceId"], document["region"]) == (shared.instance_id, "us-west-2")


def test_the_role_has_credentials(shared: MetadataService) -> None:
    assert get(shared, f"{META}/iam/security-credentials/").text == "batch"
    found = json.loads(get(shared, f"{META}/iam/security-credentials/batch").text)
    assert found["Code"] == "Success"
    assert found["AccessKeyId"] and found["SecretAccessKey"] and found["Token"]
    assert found["Expiration"] > found["LastUpdated"]


def test_an_sdk_takes_them(shared: MetadataService, monkeypatch: pytest.MonkeyPatch) -> None:
    from botocore.session import Session

    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    for name, value in shared.env.items():
        monkeypatch.setenv(name, value)
    credentials = Session().get_credentials()
    assert credentials is not None
    assert credentials.get_frozen_credentials().access_key == "ASIAFSNAPFSNAPFSNAP0"


def test_there_is_no_notice_until_there_is_one(own: MetadataService) -> None:
    path = f"{META}/spot/instance-action"
    assert get(own, path).status == 404
    said = own.tell("notice", "--window", "30", "--action", "stop")
    reply = get(own, path)
    notice = json.loads(reply.text)
    assert notice["action"] == "stop"
    assert notice["time"] in said
    assert get(own, f"{META}/events/recommendations/rebalance").status == 404
    assert own.tell("cancel") == "metadata: taken back\n"
    assert get(own, path).status == 404
    assert own.tell("cancel") == "metadata: there was no notice\n"


def test_a_recommendation_stands_alone_or_with_a_notice(own: MetadataService) -> None:
    own.tell("notice", "--rebalance")
    assert "noticeTime" in json.loads(get(own, f"{META}/events/recommendations/rebalance").text)
    assert get(own, f"{META}/spot/instance-action").status == 404
    own.tell("notice", "--rebalance", "--window", "120")
    assert get(own, f"{META}/spot/termination-time").status == 200


def test_its_clock_may_be_wrong(shared: MetadataService) -> None:
    wrong = MetadataService("--clock-offset", "-86400")
    try:
        theirs = parsedate_to_datetime(get(wrong, f"{META}/instance-id").headers["Date"])
    finally:
        wrong.close()
    ours = parsedate_to_datetime(get(shared, f"{META}/instance-id").headers["Date"])
    assert 86400 - 10 < (ours - theirs).total_seconds() < 86400 + 10


def test_faults_come_for_a_number_of_requests(own: MetadataService) -> None:
    own.tell("fault", "--answer", "429:2", "--only", META)
    statuses = [get(own, f"{META}/instance-id").status for _ in range(4)]
    assert statuses == [429, 429, 200, 200]


def test_faults_come_for_a_fraction_and_can_be_cleared(own: MetadataService) -> None:
    own.tell("fault", "--answer", "500:0.5", "--only", META)
    statuses = [get(own, f"{META}/instance-id").status for _ in range(40)]
    assert 5 < statuses.count(500) < 35
    assert set(statuses) == {200, 500}
    assert own.tell("fault", "--clear") == "metadata: faults: none\n"
    assert {get(own, f"{META}/instance-id").status for _ in range(10)} == {200}


def test_answers_are_cut_in_the_middle(own: MetadataService) -> None:
    own.tell("notice", "--window", "30")
    own.tell("fault", "--cut", "1", "--only", f"{META}/spot")
    with pytest.raises(http.client.IncompleteRead) as cut:
        get(own, f"{META}/spot/instance-action")
    assert b'"action"' in cut.value.partial
    assert get(own, f"{META}/spot/instance-action").status == 200


def test_it_can_be_slow(own: MetadataService) -> None:
    own.tell("fault", "--slow", "0.3", "--only", META)
    began_s = time.monotonic()
    assert get(own, f"{META}/instance-id").status == 200
    assert time.monotonic() - began_s >= 0.3


def test_it_vanishes_and_comes_back_with_what_it_knew(own: MetadataService) -> None:
    own.tell("notice", "--window", "30")
    own.tell("fault", "--vanish", "0.5")
    with pytest.raises(ConnectionRefusedError):
        ask(own, f"{META}/instance-id")
    limit = time.monotonic() + 20
    while time.monotonic() < limit:
        try:
            assert get(own, f"{META}/spot/instance-action").status == 200
            return
        except ConnectionRefusedError:
            time.sleep(0.05)
    pytest.fail("it did not come back")


def test_status_tells_all(own: MetadataService) -> None:
    get(own, f"{META}/instance-id")
    own.tell("fault", "--answer", "503:9")
    own.tell("notice")
    status = json.loads(own.tell("status"))
    assert (status["schema"], status["instance_id"]) == (1, own.instance_id)
    assert status["requests"] == {f"GET {META}/instance-id": 1, f"PUT {TOKEN_PATH}": 1}
    assert status["faults"] == ["answer 503, 9 more"]
    assert status["notice"]["action"] == "terminate"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["notice", "--window", "-1"], "a window is between 0 and"),
        (["notice", "--window", "soon"], "'soon' is no number of seconds"),
        (["notice", "--action", "explode"], "invalid choice"),
        (["fault", "--answer", "200"], "an answer is one of"),
        (["fault", "--answer", "500:2.5"], "after the colon comes"),
        (["fault", "--slow", "-1"], "a delay is a number"),
        (["fault", "--vanish", "0"], "it vanishes for more than 0"),
        (["fault", "--cut", "often"], "after the colon comes"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(shared: MetadataService, command: list[str], says: str) -> None:
    with pytest.raises(RigError, match=r"^metadata: ") as refusal:
        shared.tell(*command)
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ([], 2),
        (["serve"], 2),
        (["aws", "--port", "70000"], 2),
        (["aws", "--bind", "localhost"], 2),
        (["aws", "--answer", "never"], 2),
        (["status"], 2),
        (["status", "--port", "1"], 1),
        (["aws", "--bind", "192.0.2.1"], 1),
    ],
)
def test_the_command_line_fails_in_one_line(checkout: Path, command: list[str], status: int) -> None:
    run = subprocess.run(
        [checkout / "tools/metadata", *command], capture_output=True, text=True, timeout=60, check=False
    )
    assert (run.returncode, run.stdout) == (status, "")
    assert run.stderr.startswith("metadata: ")
    assert run.stderr.count("\n") == 1


def test_a_port_that_is_taken_is_said(shared: MetadataService) -> None:
    with pytest.raises(RigError, match="Address already in use"):
        MetadataService(port=shared.port)


def test_it_ends_by_sigterm_with_0() -> None:
    service = MetadataService()
    service.close()
    assert service._process.returncode == 0
