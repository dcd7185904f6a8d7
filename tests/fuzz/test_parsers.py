"""Bytes from outside, mutated: each parser refuses them in its own words or takes them.

By hypothesis from sound inputs here; by atheris, which follows the code's branches, in a process of its own.
"""

from __future__ import annotations

import functools
import importlib.util
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from fsnap.errors import CorruptData
from fsnap.snapshots import codec
from tests.fuzz.parsers import TARGETS
from tests.fuzz.seeds import seeds

QUICK_RUNS = 20_000
LONG_S = 60
MIB = 1 << 20

sound = functools.cache(seeds)


def test_every_target_has_a_seed_and_takes_it() -> None:
    assert sound().keys() == TARGETS.keys()
    for name, inputs in sound().items():
        for data in inputs:
            TARGETS[name](data)


@pytest.mark.process
@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=60)
@given(data=st.data())
def test_mutated(name: str, data: st.DataObject) -> None:
    """Flipped, cut, doubled, and numbers replaced by those at which counters break."""
    good = bytearray(data.draw(st.sampled_from(sound()[name])))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(good)))
        take = data.draw(st.integers(0, 8))
        good[at : at + take] = data.draw(
            st.one_of(
                st.binary(max_size=8),
                st.sampled_from(
                    [b"9" * 400, b"-1", b"1e999", b"null", b"[" * 3000, b'"\\ud800"', bytes(8), b"\xff" * 8]
                ),
            )
        )
    TARGETS[name](bytes(good))


def test_a_chunk_that_says_it_is_huge_takes_no_memory() -> None:
    """A frame of some bytes that unfolds to a gigabyte, where the index says 64 KiB."""
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(64 * MIB))
    claims_a_gib = bytearray(bomb)
    at = 5 + (bomb[4] & 0x20 == 0)  # RFC 8878, 3.1.1.1: descriptor, window if not a single segment, size
    claims_a_gib[at : at + 4] = (1024 * MIB).to_bytes(4, "little")
    tracemalloc.start()
    for stored in (bomb, bytes(claims_a_gib)):
        for kind in (codec.ZSTD, codec.DELTA):
            with pytest.raises(CorruptData):
                codec.Decoder().decode(
                    memoryview(stored), codec=kind, raw_bytes=1 << 16, expected=bytes(32), where="x"
                )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * MIB


@pytest.mark.process
def test_guided(tmp_path: Path, checkout: Path) -> None:
    """All in one process, since to start it takes longer than to run."""
    inputs = [bytes([n]) + data for n, name in enumerate(TARGETS) for data in sound()[name]]
    fuzz("any", inputs, tmp_path, checkout, f"-runs={QUICK_RUNS}")


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("name", TARGETS)
def test_guided_for_a_minute(name: str, tmp_path: Path, checkout: Path) -> None:
    fuzz(name, sound()[name], tmp_path, checkout, f"-max_total_time={LONG_S}")


def fuzz(name: str, inputs: list[bytes], folder: Path, checkout: Path, limit: str) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("needs atheris, which has no wheel for this Python or machine")
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, data in enumerate(inputs):
        (corpus / f"seed-{number}").write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.guided", name, limit, "-timeout=20", "-rss_limit_mb=1500",
         f"-artifact_prefix={folder}/", str(corpus)],
        cwd=checkout, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
