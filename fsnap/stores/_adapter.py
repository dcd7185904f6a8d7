"""The HTTP transport of the SDKs that use requests: no retries, bounded connections, slices."""

from __future__ import annotations

from typing import Any

import requests
from requests.adapters import HTTPAdapter

from fsnap.stores._body import SLICE_BYTES, SlicedBody


class SlicingAdapter(HTTPAdapter):
    """Sends long bodies slice by slice (:mod:`fsnap.stores._body`)."""

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        whole: Any = request.body
        if isinstance(whole, bytes) and len(whole) > SLICE_BYTES:
            request.body = SlicedBody(memoryview(whole))  # type: ignore[assignment]
        return super().send(request, *args, **kwargs)


def mount(session: requests.Session, max_connections: int) -> None:
    """Let *session* use it for everything."""
    adapter = SlicingAdapter(pool_maxsize=max_connections, pool_block=True, max_retries=0)
    for scheme in ("https://", "http://"):
        session.mount(scheme, adapter)
