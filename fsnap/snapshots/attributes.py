"""Which extended attributes travel: the task's, POSIX ACLs and capabilities.

Labels of the host's security modules stay behind, and so does what overlayfs keeps in
an upper directory for itself; ``opaque`` alone belongs to the content.
"""

from __future__ import annotations

import errno
import os

OPAQUE = "trusted.overlay.opaque"
_OVERLAY = ("trusted.overlay.", "user.overlay.")
_ELSEWHERE = ("trusted.overlay.redirect", "trusted.overlay.metacopy")
_WHOLE = ("system.posix_acl_access", "system.posix_acl_default", "security.capability")
_UNSUPPORTED = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


def travels(name: str, *, overlay_upper: bool) -> bool:
    """Whether the attribute *name* is captured, and cleared at a restore when it was not recorded."""
    if name.startswith(_OVERLAY):
        return overlay_upper and name == OPAQUE
    return name in _WHOLE or name.startswith(("user.", "trusted."))


def read(target: int | str, *, overlay_upper: bool) -> dict[str, bytes]:
    """The travelling attributes of *target*, a descriptor or a path whose last component is not followed.

    ``OSError`` with ``EXDEV`` for an overlay entry whose content lies in another layer.
    """
    found = {}
    for name in _names(target):
        if overlay_upper and name in _ELSEWHERE:
            raise OSError(errno.EXDEV, f"its content lies in another overlay layer ({name})")
        if travels(name, overlay_upper=overlay_upper):
            found[name] = _get(target, name)
    return found


def apply(target: int | str, wanted: dict[str, bytes], *, overlay_upper: bool) -> None:
    """Make the travelling attributes of *target* exactly *wanted*."""
    present = {name for name in _names(target) if travels(name, overlay_upper=overlay_upper)}
    for name in sorted(present - wanted.keys()):
        if isinstance(target, int):
            os.removexattr(target, name)
        else:
            os.removexattr(target, name, follow_symlinks=False)
    for name, value in wanted.items():
        if isinstance(target, int):
            os.setxattr(target, name, value)
        else:
            os.setxattr(target, name, value, follow_symlinks=False)


def _names(target: int | str) -> list[str]:
    try:
        if isinstance(target, int):
            return os.listxattr(target)
        return os.listxattr(target, follow_symlinks=False)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return []
        raise


def _get(target: int | str, name: str) -> bytes:
    if isinstance(target, int):
        return os.getxattr(target, name)
    return os.getxattr(target, name, follow_symlinks=False)
