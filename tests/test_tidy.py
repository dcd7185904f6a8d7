"""House rules that no other tool checks."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

MAX_FUNCTION_LINES = 70
MAX_MODULE_LINES = 400
MAY_CATCH_ALL = {"fsnap/agent/loop.py"}

CHECKOUT = Path(__file__).resolve().parent.parent
THIS_FILE = Path(__file__).resolve().relative_to(CHECKOUT).as_posix()

FORBIDDEN_TEXT = {
    "unfinished work": re.compile(r"\b(TODO|FIXME)\b"),
    "a path of one machine": re.compile(
        r"/work/(main|shared|\.library|\.mirror)\b|(?<![\w}>*])/root/|/\.pyenv\b|/opt/wheels\b"
    ),
    "a package registry's host": re.compile(
        r"\b(pypi\.org|pythonhosted\.org|npmjs\.(org|com)|(deb|ftp|snapshot|security)\.debian\.org)\b"
    ),
}

FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef


def project_files() -> list[str]:
    """Paths of all files that are, or may become, part of the project; what git ignores is not."""
    listing = [
        "git",
        "-c",
        "safe.directory=*",
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "-z",
    ]
    run = subprocess.run(listing, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    return sorted(path for path in set(run.stdout.split("\0")) if path and (CHECKOUT / path).is_file())


def is_python(path: str) -> bool:
    if path.endswith(".py"):
        return True
    with (CHECKOUT / path).open("rb") as file:
        return "." not in Path(path).name and re.match(rb"#!.*\bpython3?\b", file.readline()) is not None


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """Path to content of every text file."""
    found = {}
    for path in project_files():
        content = (CHECKOUT / path).read_bytes()
        if b"\0" not in content:
            found[path] = content.decode()
    return found


@pytest.fixture(scope="module")
def trees(texts: dict[str, str]) -> dict[str, ast.Module]:
    """Path to syntax tree of every Python file."""
    return {path: ast.parse(text, path) for path, text in texts.items() if is_python(path)}


def nodes(trees: dict[str, ast.Module], top: str = "") -> Iterator[tuple[str, ast.AST]]:
    for path, tree in trees.items():
        if path.startswith(top):
            for node in ast.walk(tree):
                yield path, node


def test_the_project_is_found(trees: dict[str, ast.Module]) -> None:
    assert {"fsnap/errors.py", "statecharts/__init__.py", THIS_FILE} <= trees.keys()


def test_functions_are_short(trees: dict[str, ast.Module]) -> None:
    long = [
        f"{path}:{node.lineno} {node.name}: {lines} lines"
        for path, node in nodes(trees)
        if isinstance(node, FUNCTION)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > MAX_FUNCTION_LINES
    ]
    assert not long


def test_modules_are_short(trees: dict[str, ast.Module], texts: dict[str, str]) -> None:
    lengths = {path: texts[path].count("\n") for path in trees}
    assert not {path: lines for path, lines in lengths.items() if lines > MAX_MODULE_LINES}


def catches_all(node: ast.AST) -> bool:
    """``except:``, ``except Exception``, ``suppress(Exception)``; cleaning up and raising again is none."""
    if isinstance(node, ast.ExceptHandler):
        last = node.body[-1]
        if isinstance(last, ast.Raise) and last.exc is None:
            return False
        caught = [node.type]
    elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "suppress":
        caught = list(node.args)
    else:
        return False
    names = [name for item in caught for name in (item.elts if isinstance(item, ast.Tuple) else [item])]
    return any(name is None or ast.unparse(name) in ("Exception", "BaseException") for name in names)


def test_no_broad_except(trees: dict[str, ast.Module]) -> None:
    broad = [
        f"{path}:{node.lineno}"
        for path, node in nodes(trees)
        if catches_all(node) and path not in MAY_CATCH_ALL and isinstance(node, ast.ExceptHandler | ast.Call)
    ]
    assert not broad


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("try: f()\nexcept: pass", True),
        ("try: f()\nexcept (OSError, Exception): pass", True),
        ("with contextlib.suppress(Exception): f()", True),
        ("try: f()\nexcept BaseException:\n  undo()\n  raise", False),
        ("try: f()\nexcept OSError: pass", False),
    ],
)
def test_broad_except_is_recognised(source: str, expected: bool) -> None:
    assert any(catches_all(node) for node in ast.walk(ast.parse(source))) is expected


def test_only_the_command_line_prints(trees: dict[str, ast.Module]) -> None:
    prints = [
        f"{path}:{node.lineno}"
        for path, node in nodes(trees, "fsnap/")
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
        and not path.startswith("fsnap/cli/")
    ]
    assert not prints


def test_the_core_reads_no_clock_and_no_file(trees: dict[str, ast.Module]) -> None:
    """What the import contract cannot see: built-ins, and methods of types that the core may use."""
    impure = [
        f"{path}:{node.lineno} {ast.unparse(node.func)}"
        for path, node in nodes(trees, "fsnap/core/")
        if isinstance(node, ast.Call)
        and (
            (
                isinstance(node.func, ast.Name)
                and node.func.id in {"open", "input", "exec", "eval", "__import__"}
            )
            or (isinstance(node.func, ast.Attribute) and node.func.attr in {"now", "utcnow", "today"})
        )
    ]
    assert not impure


@pytest.mark.parametrize("what", FORBIDDEN_TEXT)
def test_no_forbidden_text(what: str, texts: dict[str, str]) -> None:
    hits = [
        f"{path}:{number}: {line.strip()}"
        for path, text in texts.items()
        if path != THIS_FILE
        for number, line in enumerate(text.splitlines(), 1)
        if FORBIDDEN_TEXT[what].search(line)
    ]
    assert not hits
