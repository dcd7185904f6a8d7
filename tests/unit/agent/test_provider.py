"""What the claim records as the provider."""

from __future__ import annotations

from pathlib import Path

import pytest

from fsnap.agent.service import _with_provider
from fsnap.agent.settings import RunSettings
from fsnap.core.model import Config
from fsnap.notices.none import NoNotice


def settings(provider: str) -> RunSettings:
    return RunSettings(
        task="t",
        attempt=None,
        command=("true",),
        cwd=Path("/"),
        home=Path("/home"),
        store_url="file:///store",
        provider=provider,
        state_dirs=(),
        config=Config(provider=provider),
    )


@pytest.mark.parametrize(("asked", "recorded"), [("auto", "none"), ("file:/n", "file:/n"), ("aws", "aws")])
def test_auto_is_recorded_as_what_it_became(asked: str, recorded: str) -> None:
    made = _with_provider(settings(asked), NoNotice())
    assert made.config.provider == recorded
    assert made.provider == asked
