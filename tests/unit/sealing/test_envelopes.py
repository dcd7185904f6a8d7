"""Sealed texts and envelopes: they open with their key, in their place, unchanged, and in no other case."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from fsnap.errors import EXIT_RESTORE_FAILED, EXIT_USAGE, FsnapError, KeyNeeded, SealBroken, WrongKey
from fsnap.keys import KeyRing
from fsnap.sealing import OVERHEAD_BYTES, Box, bound, new_salt, unwrap, wrap
from tests.unit.sealing.keyrings import key, ring

NAME = "tasks/t/journal/0000000001.json"


def opened(keys: KeyRing | None, envelope: object, name: str = NAME, more: bytes = b"") -> bytes:
    return unwrap(keys, envelope, name=name, purpose="p", where="the object", more=more)


@given(st.binary(max_size=300), st.binary(max_size=40))
def test_what_was_sealed_comes_back(plain: bytes, aad: bytes) -> None:
    box = Box(key("k"), bytes(20), "p")
    sealed = box.seal(plain, aad)
    assert len(sealed) == len(plain) + OVERHEAD_BYTES
    assert box.open(sealed, aad, "x") == plain
    assert box.seal(plain, aad) != sealed, "nonces are random"


@given(st.binary(min_size=1, max_size=60), st.data())
def test_any_byte_that_differs_is_seen(plain: bytes, data: st.DataObject) -> None:
    box = Box(key("k"), bytes(20), "p")
    sealed = bytearray(box.seal(plain, b"aad"))
    at = data.draw(st.integers(0, len(sealed) - 1))
    sealed[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SealBroken, match="x was changed"):
        box.open(sealed, b"aad", "x")
    with pytest.raises(SealBroken):
        box.open(bytes(sealed[: data.draw(st.integers(0, len(sealed) - 1))]), b"aad", "x")


def test_the_place_is_part_of_the_seal() -> None:
    salt = new_salt()
    sealed = Box(key("k"), salt, "p").seal(b"plain", bound("a", b"1"))
    for box, aad in (
        (Box(key("k"), salt, "p"), bound("a", b"2")),
        (Box(key("k"), salt, "p"), bound("a\0", b"1")),
        (Box(key("k"), salt, "q"), bound("a", b"1")),
        (Box(key("k"), new_salt(), "p"), bound("a", b"1")),
        (Box(key("k", "other"), salt, "p"), bound("a", b"1")),
    ):
        with pytest.raises(SealBroken):
            box.open(sealed, aad, "x")


def test_another_reader_needs_only_the_document() -> None:
    """As ``docs/format.rst`` says, with nothing of fsnap's."""
    salt = new_salt()
    sealed = Box(key("k"), salt, "fsnap-pack").seal(b"plain", bound("tasks/t/packs/", b"d" * 32))
    derived = HKDF(algorithm=SHA256(), length=32, salt=salt, info=b"fsnap-pack").derive(key("k").secret)
    aad = b"tasks/t/packs/" + b"\0" + b"d" * 32
    assert AESGCM(derived).decrypt(sealed[:12], sealed[12:], aad) == b"plain"


def test_an_envelope_opens_with_any_key_of_the_file() -> None:
    envelope = wrap(key("old"), b"plain", name=NAME, purpose="p", more=b"m")
    assert opened(ring("new", "old"), envelope, more=b"m") == b"plain"


def test_each_refusal_has_its_own_line() -> None:
    envelope = wrap(key("k"), b"plain", name=NAME, purpose="p")
    broken = {**envelope, "box": ("A" if envelope["box"][0] != "A" else "B") + envelope["box"][1:]}
    cases: list[tuple[KeyRing | None, dict[str, str], str, type[FsnapError], int, str]] = [
        (None, envelope, NAME, KeyNeeded, EXIT_USAGE, "sealed with the key 'k', and there is no key file"),
        (ring("a", "b"), envelope, NAME, WrongKey, EXIT_USAGE, "not in the key file .it has a, b"),
        (KeyRing([key("k", "2")]), envelope, NAME, WrongKey, EXIT_USAGE, "another key than the 'k'"),
        (ring("k"), broken, NAME, SealBroken, EXIT_RESTORE_FAILED, "was changed"),
        (ring("k"), envelope, "tasks/u/x", SealBroken, EXIT_RESTORE_FAILED, "put under another name"),
        (ring("k"), {**envelope, "name": "tasks/u/x"}, "tasks/u/x", SealBroken, 176, "was changed"),
    ]
    for keys, found, name, kind, exit_code, words in cases:
        with pytest.raises(kind, match=words) as caught:
            opened(keys, found, name)
        assert type(caught.value) is kind
        assert caught.value.exit_code == exit_code
        assert caught.value.hint


@given(st.data())
def test_no_field_of_an_envelope_can_be_changed(data: st.DataObject) -> None:
    envelope = wrap(key("k"), b"plain text", name=NAME, purpose="p")
    field = data.draw(st.sampled_from(sorted(envelope)))
    text = envelope[field]
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda c: c != text[at]))
    with pytest.raises((SealBroken, WrongKey)):
        opened(ring("k"), {**envelope, field: text[:at] + other + text[at + 1 :]})


@settings(max_examples=40)
@given(st.recursive(st.none() | st.text() | st.integers(), lambda inner: st.dictionaries(st.text(), inner)))
def test_whatever_stands_there_is_refused_in_our_words(envelope: object) -> None:
    with pytest.raises((SealBroken, WrongKey)):
        opened(ring("k"), envelope)


@given(
    st.fixed_dictionaries(
        {name: st.text(max_size=12) for name in ("box", "key", "name", "print", "salt")},
        optional={"more": st.text()},
    )
)
def test_a_forged_envelope_is_refused_in_our_words(envelope: dict[str, str]) -> None:
    with pytest.raises((SealBroken, WrongKey)):
        opened(ring("k"), {**envelope, "key": "k", "name": NAME})
