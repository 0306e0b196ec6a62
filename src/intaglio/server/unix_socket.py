"""The admin listener: a Unix socket for the operator on this host, known by the credentials of his process.

The socket file has mode 0600, and every connection is checked once more against the kernel's record of the peer
(SO_PEERCRED, unix(7)): only root and the account the server runs as are let in.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from intaglio.core.errors import StateConflict, Unavailable

_BACKLOG = 64
_PATH_LIMIT = 107  # sun_path holds 108 octets with the final zero
_CREDENTIALS = struct.Struct("3i")


class HasPeer(Protocol):
    """A socket, or uvloop's view of one."""

    def getsockopt(self, level: int, option: int, length: int, /) -> bytes: ...


def bind_admin_socket(path: Path) -> socket.socket:
    """Bind and listen, replacing the file a killed server left behind.

    Raises StateConflict when a living server answers there, Unavailable when the path cannot be used.
    """
    if len(os.fsencode(path)) > _PATH_LIMIT:
        raise Unavailable(
            f"The path of the admin socket is too long: {path}.",
            code="address-unavailable",
            remedy="Set INTAGLIO_ADMIN_SOCKET to a path of at most 107 octets.",
        )
    _remove_stale(path)
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)  # the file must never exist with wider permissions, not even for an instant
    try:
        opened.bind(str(path))
        opened.listen(_BACKLOG)
    except OSError as error:
        opened.close()
        raise Unavailable(
            f"The admin socket {path} cannot be made: {error.strerror}.",
            code="address-unavailable",
            remedy="Make its folder writable, or set INTAGLIO_ADMIN_SOCKET.",
        ) from error
    finally:
        os.umask(mask)
    opened.setblocking(False)
    return opened


def peer_of(opened: HasPeer) -> Mapping[str, int]:
    """Process, user and group id of the process at the other end."""
    packed = opened.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(packed)
    return {"pid": pid, "uid": uid, "gid": gid}


def admitted(peer: Mapping[str, int]) -> bool:
    """Root, and the account this server runs as."""
    return peer["uid"] in (0, os.geteuid())


def _remove_stale(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise StateConflict(f"{path} exists and is not a socket.", code="address-in-use", remedy="Move it away.")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise StateConflict(f"Another server answers at {path}.", code="address-in-use", remedy="Stop it first.")
