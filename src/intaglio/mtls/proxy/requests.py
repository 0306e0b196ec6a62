"""Is this request the same request to everybody? What is ambiguous is refused before anything is decided.

A decision about a route is worth nothing when the service behind reads another route from the same octets, and one
about a request when the service finds two in it. So the gateway accepts less than the standards allow.
Source: RFC 9112 (sections 3.2, 6.3, 11.2), RFC 9113 (section 8.3), RFC 3986 (sections 3.3, 5.2.4).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from intaglio.mtls.proxy.exchange import Header, Malformed

TARGET_LIMIT = 8192  # octets

_TARGET = re.compile(rb"/[A-Za-z0-9\-._~%!$&'()*+,;=:@/]*(?:\?[A-Za-z0-9\-._~%!$&'()*+,;=:@/?\[\]|{}^`\\\"<>]*)?")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_HIDDEN = re.compile(rb"%(?:2[eEfF]|5[cC]|00)")  # . / \ and NUL behind an escape
_HOST = re.compile(rb"(?:[A-Za-z0-9\-._~]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_REFUSED_METHODS = frozenset({b"CONNECT", b"TRACE", b"TRACK"})


def checked_target(target: bytes, authority: bytes, *, method: bytes = b"GET") -> bytes:
    """The origin-form of a request target; ``*`` of OPTIONS stays as it is, and nobody else may ask for it.

    An absolute-form has to name the same authority as the Host field. Raises Malformed for a path that different
    servers read differently: dot segments, empty segments, hidden slashes, backslashes, broken escapes.
    """
    if len(target) > TARGET_LIMIT:
        raise Malformed(f"The request target exceeds {TARGET_LIMIT} octets.", status=414, code="target-too-long")
    if target == b"*" and method == b"OPTIONS":
        return target
    if target[:7].lower() == b"http://" or target[:8].lower() == b"https://":
        host, slash, rest = target.partition(b"://")[2].partition(b"/")
        if host.lower() != authority.lower():
            raise Malformed("The request target names another authority than the Host field.", code="ambiguous-host")
        target = slash + rest or b"/"
    if not _TARGET.fullmatch(target):
        raise Malformed("The request target is not a path.", code="ambiguous-target")
    path = target.partition(b"?")[0]
    if _BAD_ESCAPE.search(target) or _HIDDEN.search(path):
        raise Malformed("The path hides characters behind escapes.", code="ambiguous-target")
    segments = path.split(b"/")[1:]
    if any(segment.partition(b";")[0] in (b".", b"..") for segment in segments) or b"" in segments[:-1]:
        raise Malformed("The path has empty or dot segments.", code="ambiguous-target")
    return target


def checked_authority(values: Sequence[bytes]) -> bytes:
    """The one authority of a request. Raises Malformed when there is none, several, or a strange one."""
    if len(values) != 1:
        raise Malformed("The request needs exactly one Host field.", code="ambiguous-host")
    if not _HOST.fullmatch(values[0]):
        raise Malformed("The Host field is not a host name.", code="ambiguous-host")
    return values[0]


def checked_method(method: bytes) -> bytes:
    """The method. Raises Malformed for CONNECT and TRACE, which a reverse proxy has no use for."""
    if not _TOKEN.fullmatch(method):
        raise Malformed("The method is not a token.")
    if method.upper() in _REFUSED_METHODS:
        raise Malformed(f"{method.decode()} is not served here.", status=405, code="method-not-allowed")
    return method


def check_fields(headers: Sequence[Header]) -> None:
    """Raise Malformed for a control character in a value, which every server treats in a way of its own (RFC 9110
    section 5.5)."""
    if any(_CONTROL.search(value) for _, value in headers):
        raise Malformed("A field has a control character in it.")


def check_framing(headers: Sequence[Header], *, version: bytes) -> None:
    """Refuse a body whose end is a matter of opinion (RFC 9112 section 6.3, and its warning about smuggling).

    Raises Malformed when both Content-Length and Transfer-Encoding are there, when one of them occurs twice or is
    anything but a number or ``chunked``, and when HTTP/1.0 uses chunks.
    """
    lengths = [value for name, value in headers if name == b"content-length"]
    encodings = [value for name, value in headers if name == b"transfer-encoding"]
    if lengths and encodings:
        raise Malformed("Content-Length and Transfer-Encoding exclude each other.", code="ambiguous-framing")
    if len(lengths) > 1 or any(not value.isdigit() for value in lengths):
        raise Malformed("Content-Length is not one number.", code="ambiguous-framing")
    if len(encodings) > 1 or any(value.strip().lower() != b"chunked" for value in encodings):
        raise Malformed("The only transfer encoding understood is chunked.", status=501, code="ambiguous-framing")
    if encodings and version != b"1.1":
        raise Malformed("HTTP/1.0 has no transfer encodings.", code="ambiguous-framing")
