"""The EC2 instance metadata service, version 2, as far as a spot task meets it.

Source: EC2 user guide, "Use IMDSv2", "Instance metadata categories" and "Spot
Instance interruption notices".
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import secrets
import threading
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from typing import Any

TOKEN_PATH = "/latest/api/token"
TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN_HEADER = "X-aws-ec2-metadata-token"
MAX_TTL_S = 21600
ACTIONS = ("terminate", "stop", "hibernate")
MAX_WINDOW_S = 86400.0
CREDENTIALS_LIFE_S = 6 * 3600
ACCOUNT = "000000000000"


class BadRequest(ValueError):
    """The control side was asked for something that makes no sense."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """The machine that the service describes."""

    instance_id: str
    instance_type: str = "m6i.large"
    region: str = "eu-west-1"
    lifecycle: str = "spot"
    address: str = "10.0.0.10"
    role: str = "fsnap"
    access_key: str = "ASIAFSNAPFSNAPFSNAP0"
    secret_key: str = "fsnap-secret-for-tests"
    session_token: str = "fsnap-session-for-tests"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer, before the headers that all answers have."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain"
    headers: tuple[tuple[str, str], ...] = ()


def instance_id_for(place: str) -> str:
    """An id that looks like EC2's; the same for the same *place*, so that it outlives a restart."""
    return "i-0" + hashlib.sha256(place.encode()).hexdigest()[:16]


def stamp(moment_s: float) -> str:
    return datetime.fromtimestamp(moment_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Imds:
    """One instance's metadata, its tokens, and the notice that may stand."""

    def __init__(self, instance: Instance, *, clock_offset_s: float = 0.0) -> None:
        self.instance = instance
        self.clock_offset_s = clock_offset_s
        self._tokens: dict[str, float] = {}
        self._notice: dict[str, str] | None = None
        self._rebalance: dict[str, str] | None = None
        self._counts: Counter[str] = Counter()
        self._started_s = self.now_s()
        self._lock = threading.Lock()

    def now_s(self) -> float:
        """The service's own clock, in seconds since the epoch."""
        return time.time() + self.clock_offset_s

    def announce(self, *, window_s: float | None, action: str, rebalance: bool) -> dict[str, Any]:
        """Let a notice stand from now on; the deadline is a whole second, at least *window_s* away."""
        if action not in ACTIONS:
            raise BadRequest(f"an action is one of {', '.join(ACTIONS)}, not {action!r}")
        if window_s is not None and not 0 <= window_s <= MAX_WINDOW_S:
            raise BadRequest(f"a window is between 0 and {MAX_WINDOW_S:.0f} seconds, not {window_s:g}")
        now_s = self.now_s()
        with self._lock:
            if rebalance:
                self._rebalance = {"noticeTime": stamp(now_s)}
            if window_s is not None:
                deadline_s = math.ceil(now_s + window_s)
                self._notice = {"action": action, "time": stamp(deadline_s)}
        if window_s is None:
            return {"rebalance": stamp(now_s)}
        return {"action": action, "time": stamp(deadline_s), "left_s": round(deadline_s - now_s, 3)}

    def cancel(self) -> bool:
        """Take everything back; whether there was anything."""
        with self._lock:
            stood = self._notice is not None or self._rebalance is not None
            self._notice = self._rebalance = None
        return stood

    def status(self) -> dict[str, Any]:
        with self._lock:
            return {
                "schema": 1,
                "provider": "aws",
                "instance_id": self.instance.instance_id,
                "clock_offset_s": self.clock_offset_s,
                "now": stamp(self.now_s()),
                "notice": self._notice,
                "rebalance": self._rebalance,
                "requests": dict(sorted(self._counts.items())),
            }

    def count(self, method: str, path: str) -> None:
        """Note that this was asked, whatever becomes of it."""
        with self._lock:
            self._counts[f"{method} {path}"] += 1

    def reply(self, method: str, path: str, headers: Message[str, str]) -> Reply:
        """Answer one request as EC2 does."""
        with self._lock:
            if path == TOKEN_PATH:
                return self._issue(headers) if method == "PUT" else self.refuse(405)
            if method != "GET":
                return self.refuse(405)
            if self._tokens.get(headers.get(TOKEN_HEADER, ""), 0.0) <= time.monotonic():
                return self.refuse(401)
            return self._look_up(path)

    def _issue(self, headers: Message[str, str]) -> Reply:
        if "X-Forwarded-For" in headers:
            return self.refuse(403)
        ttl = headers.get(TTL_HEADER, "")
        if not ttl.isdecimal() or not 1 <= int(ttl) <= MAX_TTL_S:
            return self.refuse(400)
        now_s = time.monotonic()
        self._tokens = {token: until_s for token, until_s in self._tokens.items() if until_s > now_s}
        token = base64.urlsafe_b64encode(b"\0" * 6 + secrets.token_bytes(34)).decode()
        self._tokens[token] = now_s + int(ttl)
        return Reply(status=200, body=token.encode(), headers=((TTL_HEADER, ttl),))

    def refuse(self, status: int) -> Reply:
        titles = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found"}
        titles |= {405: "Method Not Allowed", 429: "Too Many Requests", 500: "Internal Server Error"}
        title = f"{status} - {titles.get(status, 'Error')}"
        page = f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\n"
        return Reply(status=status, body=page.encode(), content_type="text/html")

    def _look_up(self, path: str) -> Reply:
        tree = self._tree()
        name = path.strip("/")
        if name in tree:
            text = tree[name]
            kind = "application/json" if text.startswith("{") else "text/plain"
            return Reply(status=200, body=text.encode(), content_type=kind)
        below = {leaf[len(name) + 1 :] for leaf in tree if leaf.startswith(f"{name}/")}
        children = sorted({leaf.partition("/")[0] + ("/" if "/" in leaf else "") for leaf in below})
        if not children:
            return self.refuse(404)
        return Reply(status=200, body="\n".join(children).encode())

    def _tree(self) -> dict[str, str]:
        """Path to content of everything that there is just now."""
        me = self.instance
        tree = {
            "instance-id": me.instance_id,
            "instance-type": me.instance_type,
            "instance-life-cycle": me.lifecycle,
            "ami-id": "ami-00000000000000000",
            "hostname": f"ip-{me.address.replace('.', '-')}.{me.region}.compute.internal",
            "local-ipv4": me.address,
            "mac": "02:00:00:00:00:01",
            "placement/region": me.region,
            "placement/availability-zone": f"{me.region}a",
            "services/domain": "amazonaws.com",
            "services/partition": "aws",
        }
        if me.role:
            tree["iam/info"] = self._json(
                Code="Success",
                LastUpdated=stamp(self._started_s),
                InstanceProfileArn=f"arn:aws:iam::{ACCOUNT}:instance-profile/{me.role}",
                InstanceProfileId="AIPAFSNAPFSNAPFSNAP00",
            )
            tree[f"iam/security-credentials/{me.role}"] = self._credentials()
        if self._notice is not None:
            tree["spot/instance-action"] = json.dumps(self._notice)
            if self._notice["action"] == "terminate":
                tree["spot/termination-time"] = self._notice["time"]
        if self._rebalance is not None:
            tree["events/recommendations/rebalance"] = json.dumps(self._rebalance)
        found = {f"latest/meta-data/{path}": text for path, text in tree.items()}
        found["latest/dynamic/instance-identity/document"] = self._document()
        return found

    def _credentials(self) -> str:
        me = self.instance
        return self._json(
            Code="Success",
            LastUpdated=stamp(self.now_s()),
            Type="AWS-HMAC",
            AccessKeyId=me.access_key,
            SecretAccessKey=me.secret_key,
            Token=me.session_token,
            Expiration=stamp(self.now_s() + CREDENTIALS_LIFE_S),
        )

    def _document(self) -> str:
        me = self.instance
        return self._json(
            accountId=ACCOUNT,
            architecture="x86_64",
            availabilityZone=f"{me.region}a",
            imageId="ami-00000000000000000",
            instanceId=me.instance_id,
            instanceType=me.instance_type,
            pendingTime=stamp(self._started_s),
            privateIp=me.address,
            region=me.region,
            version="2017-09-30",
        )

    @staticmethod
    def _json(**fields: str) -> str:
        return json.dumps(fields, indent=2)
