"""The path of a request as policies see it: one spelling for what any upstream may take it for.

A policy that reads the path differently from the application behind the ingress can be walked around. Harmless
differences are evened out (percent-encoding of ordinary characters, repeated slashes); what applications are known to
read in two ways is not a path that anything is allowed on.
"""

from __future__ import annotations

import re

from intaglio.mtls.access.bounded import remembered

LONGEST_PATH = 8192
_SHORT = 256

_TRIPLET = re.compile(r"%([0-9A-Fa-f]{2})")
_SLASHES = re.compile(r"/{2,}")

@remembered(entries=4096, longest=_SHORT)
def normalized_path(raw: str) -> str | None:
    """The path (without query or fragment) decoded, with single slashes; None when it can be read in two ways.

    Those are: dot segments, plain or encoded; path parameters (``;``, which Java's servers take out of a segment and
    others leave in it), plain or encoded; encoded slashes, percent signs and backslashes; control characters; broken
    percent-encoding; anything that does not start with a slash, except ``*`` (RFC 9112 section 3.2.4). Source: RFC
    3986 sections 3.3 and 6.2.2.
    """
    if len(raw) > LONGEST_PATH:
        return None
    path = re.split(r"[?#]", raw, maxsplit=1)[0]
    if path == "*":
        return path
    decoded = _decoded(path)
    if decoded is None or not decoded.startswith("/"):
        return None
    if any(c in decoded for c in "\\;") or any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in decoded):
        return None
    if any(segment in (".", "..") for segment in decoded.split("/")):
        return None
    return _SLASHES.sub("/", decoded)


def _decoded(path: str) -> str | None:
    if "%" not in path:
        return path
    octets = bytearray()
    position = 0
    while position < len(path):
        if path[position] != "%":
            octets += path[position].encode("utf-8", "surrogatepass")
            position += 1
            continue
        triplet = _TRIPLET.match(path, position)
        if triplet is None or triplet[1].upper() in ("2F", "5C", "25"):
            return None
        octets.append(int(triplet[1], 16))
        position += 3
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return None


@remembered(entries=1024, longest=_SHORT)
def normalized_host(raw: str) -> str:
    """A Host header in lower case without port and final dot; an IPv6 literal keeps its brackets."""
    host = raw.strip().lower()[:300]
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0].rstrip(".")
