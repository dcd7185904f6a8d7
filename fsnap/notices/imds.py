"""A client for the EC2 instance metadata service, version 2, on the standard library alone.

The SDK is not used: it takes a third of a second to import, retries by itself, and
hides the status codes and the ``Date`` that the poller lives on.  Proxy variables
are not read, since the service answers on the link only.

Source: EC2 user guide, "Use the Instance Metadata Service to access instance
metadata"; AWS SDKs reference guide, "IMDS client".
"""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal, cast
from urllib.parse import urlsplit

from fsnap.clock import Clock
from fsnap.errors import FsnapError, UsageError

IPV4_ENDPOINT = "http://169.254.169.254"
IPV6_ENDPOINT = "http://[fd00:ec2::254]"
TOKEN_TTL_S = 21600
"""Six hours, the longest that the service grants."""
TOKEN_RENEW_S = 60.0
CONNECT_TIMEOUT_S = 1.0
ANSWER_TIMEOUT_S = 2.0
MAX_BODY_BYTES = 64 * 1024

HOP_LIMIT_HINT = (
    "In a container the instance's metadata hop limit must be 2: "
    "aws ec2 modify-instance-metadata-options --http-put-response-hop-limit 2 --instance-id ID."
)

FailureKind = Literal["unreachable", "silent", "broken", "denied", "foreign", "busy"]


class MetadataError(FsnapError):
    """The metadata service gave no usable answer.

    ``kind``: ``unreachable`` (no connection), ``silent`` (a connection, no answer in
    time), ``broken`` (cut, or not HTTP), ``denied`` (403: turned off), ``foreign``
    (another service: it knows no token), ``busy`` (429, 5xx, and 401 for a fresh token).
    """

    code = "metadata"
    retryable = True

    def __init__(self, kind: FailureKind, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.kind = kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where the service listens."""

    url: str
    host: str
    port: int
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One exchange; times are monotonic seconds."""

    status: int
    body: bytes
    date: datetime | None
    server: str
    token_ttl_s: str
    sent_mono_s: float
    received_mono_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeIdentity:
    """What the cloud calls this machine; what it does not tell is ``None``."""

    provider: str
    instance_id: str
    instance_type: str | None
    region: str | None
    lifecycle: str | None
    """``spot``, ``on-demand``, …: as the provider says it."""


def metadata_disabled(env: Mapping[str, str]) -> bool:
    """Whether ``AWS_EC2_METADATA_DISABLED`` forbids to ask."""
    return env.get("AWS_EC2_METADATA_DISABLED", "").strip().lower() == "true"


def endpoint_from(env: Mapping[str, str]) -> Endpoint:
    """The endpoint that the SDKs' variables name; :class:`~fsnap.errors.UsageError` if they make no sense."""
    mode = env.get("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "").strip().lower()
    if mode not in ("", "ipv4", "ipv6"):
        raise UsageError(
            f"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE is {mode!r}", hint="It is IPv4 or IPv6, or not set."
        )
    default = IPV6_ENDPOINT if mode == "ipv6" else IPV4_ENDPOINT
    return parse_endpoint(env.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "").strip() or default)


def parse_endpoint(url: str) -> Endpoint:
    """Take *url* apart; the service speaks plain HTTP only."""
    hint = "It is a URL such as http://169.254.169.254."
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 80
    except ValueError as error:
        raise UsageError(f"the metadata endpoint {url!r} is no URL ({error})", hint=hint) from error
    if parts.scheme != "http" or not host or any(sign.isspace() for sign in url):
        raise UsageError(f"the metadata endpoint {url!r} is no http:// URL", hint=hint)
    return Endpoint(url=url.rstrip("/"), host=host, port=port, path=parts.path.rstrip("/"))


class _Reader(io.RawIOBase):
    """Reads a socket until one moment for the whole answer: a byte a second must not hold the caller."""

    def __init__(self, connection: socket.socket, until_mono_s: float, clock: Clock) -> None:
        self._connection = connection
        self._until_mono_s = until_mono_s
        self._clock = clock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        left_s = self._until_mono_s - self._clock.mono_s()
        if left_s <= 0:
            raise TimeoutError("the answer takes too long")
        self._connection.settimeout(left_s)
        return self._connection.recv_into(cast(bytearray, buffer))

    def makefile(self, _mode: str) -> io.BufferedReader:
        """As a socket has it; :class:`http.client.HTTPResponse` asks for it."""
        return io.BufferedReader(self)


class ImdsClient:
    """Asks one metadata service; it keeps a token and renews it before its end.  For one thread."""

    def __init__(
        self, endpoint: Endpoint, clock: Clock, *, answer_timeout_s: float = ANSWER_TIMEOUT_S
    ) -> None:
        self.endpoint = endpoint
        self.answer_timeout_s = answer_timeout_s
        self.had_answer = False
        self._clock = clock
        self._token = ""
        self._token_until_s = 0.0
        self._connection: socket.socket | None = None

    def get(self, path: str) -> Answer:
        """The answer for *path* (``/latest/…``): status 200 or 404; anything else is :class:`MetadataError`.

        A 401 says that the token is no longer good, whatever its age (a service that
        was restarted, an instance that was hibernated): a new one is asked for at once.
        """
        answer = self._exchange("GET", path, {"X-aws-ec2-metadata-token": self.token()})
        if answer.status == 401:
            self._token = ""
            answer = self._exchange("GET", path, {"X-aws-ec2-metadata-token": self.token()})
        if answer.status == 401:
            self._token = ""
        if answer.status not in (200, 404):
            raise self._refusal(answer, f"GET {path}")
        return answer

    def token(self) -> str:
        """A token that is good for a minute more at least; raises :class:`MetadataError`."""
        if self._token and self._clock.mono_s() < self._token_until_s:
            return self._token
        path = "/latest/api/token"
        answer = self._exchange("PUT", path, {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_TTL_S)})
        token = answer.body.decode("latin-1").strip()
        if answer.status != 200:
            raise self._refusal(answer, f"PUT {path}")
        if not token.isascii() or not token.isprintable() or not 0 < len(token) <= 1024 or " " in token:
            raise MetadataError("foreign", f"{self.endpoint.url} gave no token")
        granted_s = float(answer.token_ttl_s) if answer.token_ttl_s.isdecimal() else TOKEN_TTL_S
        self._token = token
        self._token_until_s = answer.sent_mono_s + max(granted_s / 2, granted_s - TOKEN_RENEW_S)
        return token

    def abort(self) -> None:
        """End a request that another thread waits for."""
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _refusal(self, answer: Answer, what: str) -> MetadataError:
        message = f"{self.endpoint.url} answered {answer.status} to {what}"
        ours = answer.server.startswith("EC2")
        if answer.status == 403 and (ours or self._token):
            return MetadataError(
                "denied",
                f"{message}: instance metadata is turned off",
                hint="Turn it on: aws ec2 modify-instance-metadata-options --http-endpoint enabled.",
            )
        if answer.status in (401, 429) or answer.status >= 500 or self._token:
            return MetadataError("busy", message)
        return MetadataError("foreign", message)

    def _exchange(self, method: str, path: str, headers: Mapping[str, str]) -> Answer:
        """One request on a connection of its own: a kept one breaks just when the service restarts."""
        sent_mono_s = self._clock.mono_s()
        where = self.endpoint.url
        try:
            connection = socket.create_connection((self.endpoint.host, self.endpoint.port), CONNECT_TIMEOUT_S)
        except OSError as error:
            raise MetadataError(
                "unreachable", f"no connection to {where} ({error.strerror or error})"
            ) from error
        self._connection = connection
        try:
            connection.settimeout(self.answer_timeout_s)
            connection.sendall(_request(method, self.endpoint, path, headers))
            reader = _Reader(connection, self._clock.mono_s() + self.answer_timeout_s, self._clock)
            response = http.client.HTTPResponse(cast(socket.socket, reader), method=method)
            response.begin()
            body = response.read(MAX_BODY_BYTES)
        except TimeoutError as error:
            raise MetadataError("silent", f"{where} took the connection and did not answer") from error
        except (OSError, http.client.HTTPException) as error:
            raise MetadataError("broken", f"the answer of {where} was cut ({error!r})") from error
        finally:
            self._connection = None
            connection.close()
        if response.length:
            raise MetadataError(
                "broken", f"the answer of {where} was cut ({response.length} bytes are missing)"
            )
        self.had_answer = True
        return Answer(
            status=response.status,
            body=body,
            date=_date(response.getheader("Date")),
            server=response.getheader("Server") or "",
            token_ttl_s=response.getheader("X-aws-ec2-metadata-token-ttl-seconds") or "",
            sent_mono_s=sent_mono_s,
            received_mono_s=self._clock.mono_s(),
        )


def _request(method: str, endpoint: Endpoint, path: str, headers: Mapping[str, str]) -> bytes:
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    lines = [f"{method} {endpoint.path}{path} HTTP/1.1", f"Host: {host}:{endpoint.port}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += ["Content-Length: 0"] if method == "PUT" else []
    return "\r\n".join([*lines, "Accept: */*", "User-Agent: fsnap", "Connection: close", "", ""]).encode(
        "ascii"
    )


def _date(header: str | None) -> datetime | None:
    try:
        moment = parsedate_to_datetime(header or "")
    except (ValueError, TypeError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def fetch_identity(client: ImdsClient) -> NodeIdentity | None:
    """Ask who this machine is; ``None`` when the service does not tell."""
    instance_id = fetch_fact(client, "instance-id") or fetch_fact(client, "instance-id")
    if instance_id is None:
        return None
    return NodeIdentity(
        provider="aws",
        instance_id=instance_id,
        instance_type=fetch_fact(client, "instance-type"),
        region=fetch_fact(client, "placement/region"),
        lifecycle=fetch_fact(client, "instance-life-cycle"),
    )


def fetch_fact(client: ImdsClient, path: str) -> str | None:
    """One line below ``meta-data/``; ``None`` when it is not told."""
    try:
        answer = client.get(f"/latest/meta-data/{path}")
    except MetadataError:
        return None
    text = answer.body.decode("latin-1").strip()
    return text if answer.status == 200 and text.isprintable() and text else None


def instance_identity(
    *, clock: Clock, env: Mapping[str, str], answer_timeout_s: float = 1.0
) -> NodeIdentity | None:
    """The machine's name in EC2, or ``None`` off EC2 or where ``AWS_EC2_METADATA_DISABLED`` is set.

    Takes at most some seconds, and a millisecond where nothing listens.
    """
    if metadata_disabled(env):
        return None
    client = ImdsClient(endpoint_from(env), clock, answer_timeout_s=answer_timeout_s)
    try:
        client.token()
    except MetadataError as error:
        if error.kind in ("unreachable", "foreign", "denied"):
            return None
    return fetch_identity(client)
