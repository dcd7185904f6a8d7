"""The command line of ``tools/metadata``."""

from __future__ import annotations

import argparse
import http.client
import ipaddress
import json
import secrets
import signal
import sys
from typing import Any, NoReturn

from .faults import BadFault, Faults, parse_rules
from .imds import ACTIONS, Imds, Instance, instance_id_for
from .server import CONTROL, MetadataServer

ASK_TIMEOUT_S = 10.0
DEFAULTS = Instance(instance_id="")

USAGE = """\
Serves a cloud's instance metadata, for tests and demonstrations of fsnap.

  tools/metadata aws --port 1338          serve EC2's on 127.0.0.1 until SIGTERM
  tools/metadata notice --port 1338 --window 30
  tools/metadata cancel --port 1338
  tools/metadata fault --port 1338 --answer 500:0.3 --slow 2:10
  tools/metadata status --port 1338

Point a client at it with AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.0.0.1:1338.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, where argparse prints its usage too."""
        fail(message, status=2)


def fail(message: str, *, status: int) -> NoReturn:
    print(f"metadata: {message}", file=sys.stderr)
    raise SystemExit(status)


def main(arguments: list[str]) -> int:
    """Run one command; returns the exit code: 0, 1 no server or no port, 2 bad input."""
    options = build_parser().parse_args(arguments)
    if options.command == "aws":
        return serve(options)
    if options.command == "notice":
        window_s = options.window if options.window is not None or options.rebalance else 120.0
        fields = {"window_s": window_s, "action": options.action, "rebalance": options.rebalance}
        answer = ask(options, "notice", fields)
        if "time" in answer:
            print(f"metadata: {answer['action']} at {answer['time']}, in {answer['left_s']} s", flush=True)
        if options.rebalance:
            print("metadata: rebalance recommended")
    elif options.command == "cancel":
        stood = ask(options, "cancel", {})["cancelled"]
        print("metadata: taken back" if stood else "metadata: there was no notice")
    elif options.command == "fault":
        answer = ask(options, "fault", fault_fields(options))
        faults = list(answer["faults"])
        if options.vanish is not None:
            faults.append(f"gone for {options.vanish:g} s")
        print(f"metadata: faults: {'; '.join(faults) or 'none'}")
    else:
        print(json.dumps(ask(options, "status", {}), indent=2))
    return 0


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tools/metadata", description=USAGE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    aws = commands.add_parser("aws", help="serve EC2's instance metadata (IMDSv2)")
    aws.add_argument("--port", type=_port, default=0, help="0, the default, takes a free one and prints it")
    aws.add_argument("--bind", type=_address, default="127.0.0.1", metavar="ADDR")
    aws.add_argument("--instance-id", help="by default one made from the address and the port")
    aws.add_argument("--instance-type", default=DEFAULTS.instance_type)
    aws.add_argument("--region", default=DEFAULTS.region)
    aws.add_argument("--lifecycle", default=DEFAULTS.lifecycle, choices=["spot", "on-demand", "scheduled"])
    aws.add_argument("--role", default=DEFAULTS.role, help="the instance's role; empty: it has none")
    aws.add_argument("--access-key", default=DEFAULTS.access_key)
    aws.add_argument("--secret-key", default=DEFAULTS.secret_key)
    aws.add_argument("--session-token", default=DEFAULTS.session_token)
    aws.add_argument(
        "--clock-offset", type=_number, default=0.0, metavar="S", help="its clock, against this machine's"
    )
    aws.add_argument("--seed", type=int, help="makes the choice of requests that fail repeatable")
    _add_faults(aws)

    notice = _client(commands, "notice", "let a notice stand")
    notice.add_argument("--window", type=_number, metavar="S", help="seconds to the deadline; 120 by default")
    notice.add_argument("--action", default="terminate", choices=ACTIONS)
    notice.add_argument(
        "--rebalance", action="store_true", help="a recommendation; with --window an interruption too"
    )
    _client(commands, "cancel", "take the notice and the recommendation back")
    fault = _client(commands, "fault", "add faults; WHEN is a count (3) or a fraction (0.3), else always")
    _add_faults(fault)
    fault.add_argument("--vanish", type=_number, metavar="S", help="refuse connections for S seconds")
    fault.add_argument("--clear", action="store_true", help="drop the faults there are first")
    _client(commands, "status", "print what it would tell, what it was asked and its faults, as JSON")
    return parser


def _client(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text)
    parser.add_argument("--port", type=_port, required=True)
    parser.add_argument("--address", type=_address, default="127.0.0.1", metavar="ADDR")
    return parser


def _add_faults(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--slow", action="append", default=[], metavar="S[:WHEN]", help="answer after S seconds"
    )
    parser.add_argument(
        "--answer", action="append", default=[], metavar="CODE[:WHEN]", help="401, 429, 500, …"
    )
    parser.add_argument(
        "--cut",
        action="append",
        default=[],
        nargs="?",
        const="",
        metavar="WHEN",
        help="cut answers in the middle",
    )
    parser.add_argument("--only", default="/", metavar="PREFIX", help="only requests whose path begins so")


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return int(text)


def _address(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no IPv4 address") from error


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return value


def fault_fields(options: argparse.Namespace) -> dict[str, Any]:
    fields = {"slow": options.slow, "answer": options.answer, "cut": options.cut, "only": options.only}
    return fields | {"vanish": options.vanish, "clear": options.clear}


def serve(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    try:
        rules = parse_rules(slow=options.slow, answer=options.answer, cut=options.cut, only=options.only)
    except BadFault as error:
        fail(str(error), status=2)
    faults = Faults(options.seed)
    faults.add(rules)
    place = f"{options.bind}:{options.port or secrets.token_hex(8)}"
    instance = Instance(
        instance_id=options.instance_id or instance_id_for(place),
        instance_type=options.instance_type,
        region=options.region,
        lifecycle=options.lifecycle,
        role=options.role,
        access_key=options.access_key,
        secret_key=options.secret_key,
        session_token=options.session_token,
    )
    imds = Imds(instance, clock_offset_s=options.clock_offset)
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        server = MetadataServer(imds, faults, bind=options.bind, port=options.port)
    except OSError as error:
        fail(f"cannot serve on {options.bind}:{options.port}: {error.strerror}", status=1)
    print(f"metadata: aws on {server.url}, instance {instance.instance_id}", flush=True)
    signal.sigwait(signals)
    server.close()
    return 0


def ask(options: argparse.Namespace, what: str, fields: dict[str, Any]) -> dict[str, Any]:
    """One control request to a server that runs already."""
    where = f"{options.address}:{options.port}"
    connection = http.client.HTTPConnection(options.address, options.port, timeout=ASK_TIMEOUT_S)
    try:
        connection.request("POST", f"{CONTROL}{what}", json.dumps(fields))
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, http.client.HTTPException) as error:
        fail(f"no metadata server answers on {where} ({error})", status=1)
    except ValueError:
        fail(f"what listens on {where} is no metadata server of this kind", status=1)
    finally:
        connection.close()
    if not isinstance(answer, dict):
        fail(f"what listens on {where} is no metadata server of this kind", status=1)
    if response.status != 200:
        fail(str(answer.get("error", f"it answered {response.status}")), status=2)
    return answer
