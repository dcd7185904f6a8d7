"""The metadata client against ``tools/metadata``, and against services that are none, over real HTTP."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pytest

from fsnap.clock import Clock, SystemClock
from fsnap.errors import UnfitMachine, UsageError
from fsnap.notices import auto, aws
from fsnap.notices.auto import open_auto
from fsnap.notices.aws import ACTION_PATH, AwsNotice, open_aws
from fsnap.notices.imds import (
    IPV6_ENDPOINT,
    ImdsClient,
    MetadataError,
    endpoint_from,
    instance_identity,
    parse_endpoint,
)
from fsnap.notices.providers import open_source
from tools.rig import MetadataService

pytestmark = pytest.mark.server

CLOCK = SystemClock()
TOKEN_PATH = "/latest/api/token"
Talk = Callable[[socket.socket], None]


@pytest.fixture
def service() -> Iterator[MetadataService]:
    service = MetadataService()
    yield service
    service.close()


@contextmanager
def impostor(talk: Talk) -> Iterator[dict[str, str]]:
    """Something that listens and is no metadata service; yields the variables that lead there."""
    listener = socket.create_server(("127.0.0.1", 0))
    taken: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            taken.append(connection)
            with connection, contextlib.suppress(OSError):
                talk(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{listener.getsockname()[1]}"}
    finally:
        for open_one in (listener, *taken):
            with contextlib.suppress(OSError):
                open_one.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def say(text: str) -> Talk:
    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(text.replace("\n", "\r\n").encode())

    return talk


def say_nothing(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def drip(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        connection.sendall(b"x")
        time.sleep(0.02)


def client_of(service: MetadataService) -> ImdsClient:
    return ImdsClient(parse_endpoint(service.url), CLOCK)


def requests(service: MetadataService) -> str:
    return service.tell("status")


def test_one_token_serves_many_questions(service: MetadataService) -> None:
    client = client_of(service)
    for _ in range(3):
        assert client.get("/latest/meta-data/instance-id").body.decode() == service.instance_id
    assert client.get(ACTION_PATH).status == 404
    assert f'"PUT {TOKEN_PATH}": 1' in requests(service)


def test_a_token_that_is_refused_is_renewed_at_once(service: MetadataService) -> None:
    client = client_of(service)
    client.token()
    service.tell("fault", "--answer", "401:1", "--only", "/latest/meta-data")
    assert client.get("/latest/meta-data/instance-id").status == 200
    assert f'"PUT {TOKEN_PATH}": 2' in requests(service)


def test_a_token_is_renewed_before_its_end(service: MetadataService) -> None:
    class Later(SystemClock):
        ahead_s = 0.0

        def mono_s(self) -> float:
            return super().mono_s() + self.ahead_s

    clock = Later()
    client = ImdsClient(parse_endpoint(service.url), clock)
    first = client.token()
    clock.ahead_s = 21600 - 90
    assert client.token() == first
    clock.ahead_s = 21600 - 30
    assert client.token() != first


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        (["--answer", "401"], "busy"),
        (["--answer", "429"], "busy"),
        (["--answer", "503"], "busy"),
        (["--answer", "403"], "denied"),
        (["--answer", "404", "--only", TOKEN_PATH], "foreign"),
        (["--cut"], "broken"),
        (["--cut", "--only", ACTION_PATH], "broken"),
        (["--slow", "5"], "silent"),
    ],
)
def test_each_failure_is_told_from_the_others(service: MetadataService, flags: list[str], kind: str) -> None:
    service.tell("fault", *flags)
    service.tell("notice", "--window", "30")
    client = client_of(service)
    client.answer_timeout_s = 0.3
    with pytest.raises(MetadataError) as failure:
        client.get(ACTION_PATH)
    assert failure.value.kind == kind
    assert "\n" not in str(failure.value)


def test_a_service_that_is_gone_is_unreachable(service: MetadataService) -> None:
    client = client_of(service)
    service.tell("fault", "--vanish", "3600")
    with pytest.raises(MetadataError, match="no connection") as failure:
        client.token()
    assert failure.value.kind == "unreachable"


def test_an_answer_that_drips_in_does_not_hold_the_caller() -> None:
    with impostor(drip) as env:
        client = ImdsClient(endpoint_from(env), CLOCK, answer_timeout_s=0.2)
        with pytest.raises(MetadataError) as failure:
            client.token()
    assert failure.value.kind == "silent"


@pytest.mark.parametrize(
    "text", ["", "SSH-2.0-x\n", "HTTP/1.1 200 OK\nContent-Length: 9\n\nx", "HTTP/1.1 abc\n\n"]
)
def test_what_is_not_http_is_broken(text: str) -> None:
    with impostor(say(text)) as env, pytest.raises(MetadataError) as failure:
        ImdsClient(endpoint_from(env), CLOCK).token()
    assert failure.value.kind == "broken"


@pytest.mark.parametrize("body", ["<html>hello there</html>", "", "x" * 2000])
def test_an_answer_that_is_no_token_is_foreign(body: str) -> None:
    with impostor(say(f"HTTP/1.1 200 OK\nContent-Length: {len(body)}\n\n{body}")) as env:
        with pytest.raises(MetadataError) as failure:
            ImdsClient(endpoint_from(env), CLOCK).token()
    assert failure.value.kind == "foreign"


def test_proxy_variables_are_not_read(service: MetadataService, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert client_of(service).token()


def test_the_node_has_a_name() -> None:
    service = MetadataService("--instance-type", "r6i.4xlarge", "--region", "us-east-2")
    try:
        found = instance_identity(clock=CLOCK, env=service.env)
    finally:
        service.close()
    assert found is not None
    assert (found.provider, found.instance_id) == ("aws", service.instance_id)
    assert (found.instance_type, found.region, found.lifecycle) == ("r6i.4xlarge", "us-east-2", "spot")


def test_off_the_cloud_the_node_has_none(service: MetadataService) -> None:
    nowhere = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1"}
    assert instance_identity(clock=CLOCK, env=nowhere) is None
    disabled = {**service.env, "AWS_EC2_METADATA_DISABLED": "TRUE"}
    assert instance_identity(clock=CLOCK, env=disabled) is None


def test_the_endpoint_comes_from_the_sdks_variables() -> None:
    assert endpoint_from({}).host == "169.254.169.254"
    ipv6 = endpoint_from({"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "IPv6"})
    assert (ipv6.url, ipv6.host, ipv6.port) == (IPV6_ENDPOINT, "fd00:ec2::254", 80)
    both = {"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "IPv6"}
    both["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = "http://10.0.0.1:1338/base/"
    assert (endpoint_from(both).host, endpoint_from(both).path) == ("10.0.0.1", "/base")


@pytest.mark.parametrize(
    "env",
    [
        {"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "IPv5"},
        {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "169.254.169.254"},
        {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "https://169.254.169.254"},
        {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:http"},
        {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:80/a\r\nb"},
    ],
)
@pytest.mark.parametrize("provider", ["aws", "auto"])
def test_variables_that_make_no_sense_are_one_line(env: dict[str, str], provider: str) -> None:
    with pytest.raises(UsageError) as refusal:
        open_source(provider, clock=CLOCK, env=env)
    assert "\n" not in str(refusal.value)


def test_aws_needs_the_service() -> None:
    env = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1"}
    with pytest.raises(
        UnfitMachine, match=r"--provider aws: no connection to http://127\.0\.0\.1:1"
    ) as refusal:
        open_aws(clock=CLOCK, env=env)
    assert refusal.value.exit_code == 2


def test_aws_that_is_forbidden_says_so(service: MetadataService) -> None:
    with pytest.raises(UnfitMachine, match="AWS_EC2_METADATA_DISABLED"):
        open_aws(clock=CLOCK, env={**service.env, "AWS_EC2_METADATA_DISABLED": "true"})


def test_aws_that_is_turned_off_says_so(service: MetadataService) -> None:
    service.tell("fault", "--answer", "403")
    with pytest.raises(UnfitMachine, match="turned off") as refusal:
        open_aws(clock=CLOCK, env=service.env)
    assert "http-endpoint enabled" in refusal.value.hint


def test_aws_that_takes_connections_and_is_silent_gets_the_hop_limit_hint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(aws, "SLOW_ANSWER_TIMEOUT_S", 0.1)
    monkeypatch.setattr(ImdsClient.__init__, "__kwdefaults__", {"answer_timeout_s": 0.1})
    with impostor(say_nothing) as env, pytest.raises(UnfitMachine, match="did not answer") as refusal:
        open_aws(clock=CLOCK, env=env)
    assert "hop limit must be 2" in refusal.value.hint


@pytest.mark.parametrize("flags", [["--answer", "500"], ["--answer", "429"], ["--cut"]])
def test_aws_that_is_only_busy_will_do(service: MetadataService, flags: list[str]) -> None:
    service.tell("fault", *flags)
    assert open_aws(clock=CLOCK, env=service.env).name == "aws"


def test_auto_finds_ec2(service: MetadataService) -> None:
    assert open_source("auto", clock=CLOCK, env=service.env).name == "aws"


@pytest.mark.parametrize(
    "talk", [say("HTTP/1.1 404 Not Found\nMetadata-Flavor: Google\nContent-Length: 0\n\n"), None, "disabled"]
)
def test_auto_is_none_off_the_cloud(talk: Talk | str | None, service: MetadataService) -> None:
    if talk == "disabled":
        env = {**service.env, "AWS_EC2_METADATA_DISABLED": "true"}
        assert open_auto(clock=CLOCK, env=env).name == "none"
    elif callable(talk):
        with impostor(talk) as env:
            assert open_auto(clock=CLOCK, env=env).name == "none"
    else:
        env = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1"}
        assert open_auto(clock=CLOCK, env=env).name == "none"


def test_auto_polls_on_what_is_there_and_does_not_answer_in_time(
    log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto, "PROBE_LIMIT_S", 0.6)
    with impostor(say_nothing) as env:
        assert open_auto(clock=CLOCK, env=env).name == "aws"
    assert "hop limit" in log[0]


def test_auto_does_not_wait_for_a_probe_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    given_up = threading.Event()

    def hang(clock: Clock, env: Mapping[str, str]) -> AwsNotice:
        given_up.wait(10)
        return AwsNotice(ImdsClient(endpoint_from(env), clock), clock)

    monkeypatch.setattr(auto, "PROBE_LIMIT_S", 0.1)
    monkeypatch.setattr(auto, "PROBES", (hang,))
    assert open_auto(clock=CLOCK, env={}).name == "none"
    given_up.set()


@pytest.mark.parametrize("provider", ["", "ec2", "gcp", "azure", "slurm", "file:", "AWS"])
def test_a_provider_that_is_not_there_is_one_line(provider: str) -> None:
    with pytest.raises(UsageError) as refusal:
        open_source(provider, clock=CLOCK, env={})
    assert "\n" not in str(refusal.value)


def test_none_and_file_need_no_cloud(tmp_path: object) -> None:
    assert open_source("none", clock=CLOCK, env={}).name == "none"
    assert open_source(f"file:{tmp_path}/notice", clock=CLOCK, env={}).name == f"file:{tmp_path}/notice"


def test_stop_ends_a_question_that_waits_for_its_answer() -> None:
    asked = threading.Event()

    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        asked.set()
        say_nothing(connection)

    with impostor(talk) as env:
        source = AwsNotice(ImdsClient(endpoint_from(env), CLOCK, answer_timeout_s=3600), CLOCK)
        source.start(lambda event, seen_mono_s: None)
        assert asked.wait(20)
        source.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "notice-aws"]
