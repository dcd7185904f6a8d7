"""Frozen values to plain JSON data and back, strictly.

Events, effects, facts and states are frozen dataclasses of ``str``, ``int``,
``bool``, ``None``, tuples, string-keyed mappings and each other.  ``to_plain`` and
``from_plain`` are exact inverses on them; anything else, an unknown field included,
raises ``ValueError``: a record that is not understood must not be half understood.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from enum import Enum
from typing import Any, TypeVar

T = TypeVar("T")
Plain = Any
"""JSON data: dict, list, str, int, bool or None."""


def to_plain(value: object) -> Plain:
    """*value* as JSON data."""
    if value is None or isinstance(value, bool | int | str):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    raise ValueError(f"{type(value).__name__} is not a journal value")


def from_plain(kind: type[T], data: Plain) -> T:
    """The *kind* that ``to_plain`` turned into *data*; ``ValueError`` if it is none."""
    value: T = _decode(kind, data, kind.__name__)
    return value


@functools.cache
def _fields(kind: type) -> dict[str, tuple[Any, bool]]:
    hints = typing.get_type_hints(kind)
    return {
        f.name: (
            hints[f.name],
            f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING,
        )
        for f in dataclasses.fields(kind)
    }


def _decode(hint: Any, data: Plain, where: str) -> Any:
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        return _decode_union(typing.get_args(hint), data, where)
    if origin is tuple:
        return _decode_tuple(typing.get_args(hint), data, where)
    if origin is dict:
        if not isinstance(data, dict):
            raise ValueError(f"{where}: not an object")
        inner = typing.get_args(hint)[1]
        return {str(key): _decode(inner, item, f"{where}.{key}") for key, item in data.items()}
    if hint is Any:
        return data
    if isinstance(hint, type):
        return _decode_class(hint, data, where)
    raise ValueError(f"{where}: no rule for {hint}")


def _decode_union(options: tuple[Any, ...], data: Plain, where: str) -> Any:
    if data is None and type(None) in options:
        return None
    for option in options:
        if option is type(None):
            continue
        try:
            return _decode(option, data, where)
        except ValueError:
            continue
    raise ValueError(f"{where}: {data!r} fits none of its types")


def _decode_tuple(inner: tuple[Any, ...], data: Plain, where: str) -> Any:
    if not isinstance(data, list):
        raise ValueError(f"{where}: not a list")
    if len(inner) == 2 and inner[1] is Ellipsis:
        return tuple(_decode(inner[0], item, f"{where}[{n}]") for n, item in enumerate(data))
    if len(inner) != len(data):
        raise ValueError(f"{where}: {len(data)} items, not {len(inner)}")
    return tuple(_decode(h, item, where) for h, item in zip(inner, data, strict=True))


def _decode_class(hint: type, data: Plain, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _decode_dataclass(hint, data, where)
    if issubclass(hint, Enum):
        return hint(data)
    if hint is int and isinstance(data, bool):
        raise ValueError(f"{where}: a truth value, not a number")
    if not isinstance(data, hint):
        raise ValueError(f"{where}: {type(data).__name__}, not {hint.__name__}")
    return data


def _decode_dataclass(hint: type, data: Plain, where: str) -> Any:
    if not isinstance(data, dict):
        raise ValueError(f"{where}: not an object")
    known = _fields(hint)
    unknown = data.keys() - known.keys()
    if unknown:
        raise ValueError(f"{where}: unknown field {sorted(unknown)[0]!r}")
    missing = [name for name, (_, required) in known.items() if required and name not in data]
    if missing:
        raise ValueError(f"{where}: no field {missing[0]!r}")
    return hint(**{name: _decode(known[name][0], item, f"{where}.{name}") for name, item in data.items()})


def tagged(value: object) -> Plain:
    """*value* as JSON data that names its class in ``kind``."""
    return {"kind": type(value).__name__, **to_plain(value)}


def untagged(kinds: dict[str, type[T]], data: Plain) -> T:
    """The value that ``tagged`` made, of one of *kinds*; ``ValueError`` if it is none."""
    if not isinstance(data, dict) or not isinstance(data.get("kind"), str) or data["kind"] not in kinds:
        raise ValueError(f"unknown kind in {str(data)[:80]}")
    return from_plain(kinds[data["kind"]], {k: v for k, v in data.items() if k != "kind"})
