"""The messages in which CRIU names an image."""

from __future__ import annotations

import pytest

from fsnap.criu.imagesocket import decode_name
from fsnap.errors import CheckpointFailed, FsnapError, RestoreFailed


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x0a",
        b"\x0a\x05abc",
        b"\x0a\x05core",
        b"\x12\x01a",
        b"\x0a\x04../x",
        b"\x0a\x02..",
        b"\x0a\x03a/b",
    ],
)
@pytest.mark.parametrize("fault", [CheckpointFailed, RestoreFailed])
def test_other_messages_are_refused(message: bytes, fault: type[FsnapError]) -> None:
    with pytest.raises(fault, match="CRIU speaks of"):
        decode_name(message, fault)


def test_the_message_holds_a_name() -> None:
    assert decode_name(b"\x0a\x0bpages-1.img", CheckpointFailed) == "pages-1.img"
