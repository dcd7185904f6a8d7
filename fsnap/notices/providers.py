"""``--provider P``: from the name to the source."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fsnap.clock import Clock
from fsnap.errors import UsageError
from fsnap.notices.base import NoticeSource

KNOWN = ("auto", "aws", "none", "file:PATH")
NOT_YET = ("gcp", "azure", "slurm")


def open_source(provider: str, *, clock: Clock, env: Mapping[str, str]) -> NoticeSource:
    """The notice source that *provider* names; *env* holds the cloud SDKs' own variables.

    ``auto`` asks the metadata services that may be there, two seconds at most, and
    becomes ``none`` off the cloud.  Raises :class:`~fsnap.errors.UsageError` for an
    unknown or unusable name, :class:`~fsnap.errors.UnfitMachine` when a provider is
    named whose service does not answer here.
    """
    known = f"Known are {', '.join(KNOWN)}."
    if provider == "none":
        from fsnap.notices.none import NoNotice

        return NoNotice()
    if provider.startswith("file:"):
        from fsnap.notices.file import FileNotice

        if provider == "file:":
            raise UsageError("--provider file: names no path", hint="Say --provider file:PATH.")
        return FileNotice(Path(provider.removeprefix("file:")), clock)
    if provider == "aws":
        from fsnap.notices.aws import open_aws

        return open_aws(clock=clock, env=env)
    if provider == "auto":
        from fsnap.notices.auto import open_auto

        return open_auto(clock=clock, env=env)
    if provider in NOT_YET:
        raise UsageError(f"--provider {provider}: not supported by this version yet", hint=known)
    raise UsageError(f"--provider {provider or repr(provider)}: unknown", hint=known)
