"""From a line of a log to an entry: one function for each format, all of them without effect.

``nginx``, ``haproxy`` and ``envoy`` are the JSON lines of rendered configurations (behind a syslog header, too) and,
for nginx, Apache and Envoy, what people commonly have: the combined format with TLS variables at its end, and Envoy's
default text. ``alb`` are the connection logs of AWS load balancers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from intaglio.mtls.access.values import ReasonCode
from intaglio.mtls.observation.importing.entries import (
    LONGEST_LINE,
    BadLine,
    Entry,
    address,
    digest_of,
    local_moment,
    moment,
    optional_moment,
    reason_in,
    reason_of_verify,
    route,
    serial_of,
    spiffe_in,
    words,
)

_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|\[([^\]\[]*)\]|(\S+)')
_STATUS = re.compile(r"[1-5][0-9]{2}")
_PROTOCOL = re.compile(r"(?:TLSv1(?:\.[0-3])?|SSLv[23])")
_REQUEST = re.compile(r"([A-Z]{1,20}) (\S{1,8192}) HTTP/[0-9.]+")
_SERIAL_ALONE = re.compile(r"[0-9A-Fa-f]{8,40}")


def parse_line(format: str, line: str) -> Entry | None:
    """The entry in a line; None for one that says nothing of access, or that was recorded as it happened already.

    Raises BadLine with what is wrong; KeyError for a format that is none of :data:`FORMATS`.
    """
    if len(line) > LONGEST_LINE:
        raise BadLine(f"it has more than {LONGEST_LINE} characters")
    text = line.strip()
    if not text:
        return None
    return FORMATS[format](text)


# ---- JSON lines of rendered configurations ---------------------------------------------------------------------------


def _object(text: str) -> Mapping[str, Any] | None:
    """The JSON object of a line, which a syslog header may precede; None when there is none."""
    start = text.find("{")
    if start < 0 or (start > 0 and text[start:][:2] != '{"'):
        return None
    try:
        value = json.loads(text[start:])
    except (ValueError, RecursionError):
        raise BadLine("it is not JSON") from None
    if not isinstance(value, dict):
        raise BadLine("it is not a JSON object")
    return value


def _nginx(text: str) -> Entry | None:
    said = _object(text)
    if said is None:
        return _combined(text)
    if said.get("decided") == "live":
        return None
    return _of_json(said, reason_of_verify(_text(said, "verify")))


def _haproxy(text: str) -> Entry | None:
    said = _object(text)
    if said is None:
        raise BadLine("it has no JSON; log with the rendered log-format")
    handshake = "handshake" in said
    if said.get("decided") == "live" and not handshake:
        return None
    verify = _text(said, "verify")
    number = next((n for n in (verify, _text(said, "error"), _text(said, "ca_error")) if n not in ("", "0", "-")), "0")
    reason = reason_of_verify(number)
    if reason is None and _text(said, "used") in ("0", ""):
        reason = ReasonCode.NO_CERTIFICATE
    if handshake and _text(said, "handshake") in ("", "0", "-") and reason is ReasonCode.NO_CERTIFICATE:
        # A connection that ended before any certificate was due.
        return None
    return _of_json(said, reason, handshake=handshake)


def _envoy(text: str) -> Entry | None:
    said = _object(text)
    if said is None:
        return _envoy_text(text)
    if said.get("decided") == "live":
        return None
    failure = _text(said, "failure")
    if said.get("log") == "intaglio-envoy-connection":
        # Connections are logged when they end; those that were made have requests of their own.
        return _of_json(said, reason_in(failure), handshake=True) if failure else None
    presented = bool(_text(said, "serial") or _text(said, "fingerprint"))
    # Envoy does not log how the verification went; only one that enforces lets nobody through whom it did not verify.
    enforce = said.get("mode") == "enforce"
    return _of_json(said, None if presented else ReasonCode.NO_CERTIFICATE, verified=enforce)


def _of_json(
    said: Mapping[str, Any], reason: ReasonCode | None, *, handshake: bool = False, verified: bool = True
) -> Entry:
    status, network = _text(said, "status"), _text(said, "network")
    inside = {"0": False, "1": True}.get(network)
    enforce = said.get("mode") == "enforce"
    # nginx answers 400 to who has no good certificate; only a rule of the ingress itself answers 403 to an outsider.
    served = not handshake and not (enforce and (reason is not None or inside is False))
    return Entry(
        at=moment(_text(said, "time")),
        kind="handshake" if handshake else "request",
        source_ip=address(_text(said, "source")),
        reason=reason,
        served=served,
        verified=verified,
        ip_allowed=inside,
        serial=serial_of(_text(said, "serial")),
        fingerprint=digest_of(_text(said, "fingerprint")),
        issuer=words(_text(said, "issuer")),
        subject=words(_text(said, "subject")),
        uri=spiffe_in(_text(said, "uri")),
        not_after=optional_moment(_text(said, "not_after")),
        tls_version=words(_text(said, "tls"))[:20],
        cipher=words(_text(said, "cipher"))[:100],
        method=words(_text(said, "method"))[:20],
        host=words(_text(said, "host")),
        path=route(_text(said, "path")),
        detail=f"HTTP {status}" if _STATUS.fullmatch(status) else words(_text(said, "failure")),
    )


def _text(said: Mapping[str, Any], name: str) -> str:
    value = said.get(name)
    if isinstance(value, bool) or value is None:
        return ""
    if isinstance(value, int | float):
        return str(value)
    return "" if value == "-" or not isinstance(value, str) else value


# ---- what people commonly have ---------------------------------------------------------------------------------------


def _combined(text: str) -> Entry | None:
    """The combined log format, with TLS variables behind it in any order: version, cipher, verification, serial number,
    subject and issuer. A log without them says nothing about certificates and cannot be used.

    What clients say of themselves (referrer, user agent, further headers) is never taken for any of them.
    """
    parts = [(matched[1], matched[2], matched[3]) for matched in _TOKEN.finditer(text)]
    if len(parts) < 7 or parts[3][1] is None or parts[4][0] is None:
        raise BadLine("it is neither JSON nor the combined format")
    request = _REQUEST.fullmatch(parts[4][0])
    status = parts[5][2] or ""
    if not _STATUS.fullmatch(status):
        raise BadLine("it has no status")
    rest = [part for group in parts[9:] for part in group if part is not None]
    found = _tls_words(rest)
    if "verify" not in found:
        raise BadLine("it does not say whether a certificate was verified ($ssl_client_verify)")
    reason = reason_of_verify(found["verify"])
    return Entry(
        at=local_moment(parts[3][1]),
        source_ip=address(parts[0][2] or ""),
        reason=reason,
        served=not (reason is not None and status in ("400", "495", "496", "403")),
        serial=serial_of(found.get("serial", "")),
        issuer=words(found.get("issuer", "")),
        subject=words(found.get("subject", "")),
        tls_version=found.get("tls", ""),
        cipher=words(found.get("cipher", ""))[:100],
        method=request[1] if request else "",
        path=route(request[2]) if request else "",
        detail=f"HTTP {status}",
    )


def _tls_words(rest: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for position, word in enumerate(rest):
        if _PROTOCOL.fullmatch(word):
            found.setdefault("tls", word)
            following = rest[position + 1] if position + 1 < len(rest) else ""
            if re.fullmatch(r"[A-Z0-9_-]{5,60}", following):
                found.setdefault("cipher", following)
        elif word in ("SUCCESS", "NONE", "GENEROUS") or word.startswith("FAILED"):
            if "verify" in found:
                raise BadLine("it says twice whether a certificate was verified; one of them may be a client's word")
            found["verify"] = word
        elif _SERIAL_ALONE.fullmatch(word):
            # Of several, nobody can tell which one a client has said.
            found["serial"] = "" if "serial" in found else word
        elif "=" in word and re.match(r"/?(?:CN|O|OU|C|ST|L|serialNumber|emailAddress|DC)=", word):
            found.setdefault("subject" if "subject" not in found else "issuer", word)
    return found


_ENVOY = re.compile(r'\[([0-9TZ:.+-]{20,40})\] "([A-Z]{1,20}) (\S{1,8192}) [^"]{1,20}" ([0-9]{1,3}) (.*)')


def _envoy_text(text: str) -> Entry | None:
    """Envoy's default format. It names no certificate by itself: a SPIFFE ID or the XFCC at its end is taken for it,
    and nothing before, since Envoy logs what clients say without escaping it."""
    matched = _ENVOY.fullmatch(text)
    if matched is None:
        raise BadLine("it is neither JSON nor Envoy's default format")
    rest = [part for token in _TOKEN.finditer(matched[5]) for part in token.groups() if part is not None]
    # The first quoted field is X-Forwarded-For, whose last address Envoy itself has put there.
    forwarded = re.search(r'"([^"]*)"', matched[5])
    source = forwarded[1].rpartition(",")[2].strip() if forwarded else ""
    uri = spiffe_in(rest[-1]) if rest else ""
    if not uri:
        raise BadLine("it names no certificate; log %DOWNSTREAM_PEER_URI_SAN%")
    return Entry(
        at=moment(matched[1].replace("Z", "+00:00")),
        source_ip=address(source) if _is_address(source) else "",
        uri=uri,
        verified=False,
        method=matched[2],
        path=route(matched[3]),
        detail=f"HTTP {matched[4]}",
    )


def _is_address(text: str) -> bool:
    try:
        address(text)
    except BadLine:
        return False
    return True


# ---- AWS -------------------------------------------------------------------------------------------------------------


def _alb(text: str) -> Entry | None:
    """Connection log of an Application Load Balancer: time, client address and port, listener port, TLS protocol,
    cipher, latency, subject, validity, serial number of the client's certificate, verify status, trace id.

    Source: Elastic Load Balancing user guide, "Connection logs for your Application Load Balancer".
    """
    fields = [part for token in _TOKEN.finditer(text) for part in token.groups() if part is not None]
    if len(fields) < 11:
        raise BadLine("a connection log entry has at least eleven fields")
    at, source, _, _, tls, cipher, _, subject, validity, serial, status = fields[:11]
    if status == "-":
        # Without mutual authentication nothing was verified, and a plain connection is no attempt at it.
        return None
    reason = reason_of_verify(status)
    if reason is ReasonCode.UNKNOWN_CA and "Unmapped" in status:
        reason = ReasonCode.NO_CERTIFICATE if subject == "-" else ReasonCode.UNKNOWN_CA
    ends = re.search(r"NotAfter=([0-9TZ:.+-]{10,40})", validity)
    return Entry(
        at=moment(at.replace("Z", "+00:00")),
        kind="handshake",
        source_ip=address(source),
        reason=reason,
        served=reason is None,
        serial=serial_of(serial),
        subject=words(subject),
        not_after=optional_moment(ends[1].replace("Z", "+00:00")) if ends else None,
        tls_version=words(tls)[:20],
        cipher=words(cipher)[:100],
        detail=words(status),
    )


FORMATS: Final[Mapping[str, Callable[[str], Entry | None]]] = {
    "nginx": _nginx,
    "apache": _combined,
    "haproxy": _haproxy,
    "envoy": _envoy,
    "alb": _alb,
}
