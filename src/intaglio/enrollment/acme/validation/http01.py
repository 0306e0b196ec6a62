"""The challenge http-01 (RFC 8555 section 8.3, for addresses RFC 8738 section 5).

Every hop of a redirect is looked up and judged like the first one, and goes to port 80 or 443 (or the port of the
endpoint) only. A server behind HTTPS must have a certificate that this host trusts.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from functools import cache
from urllib.parse import SplitResult, urljoin, urlsplit

import h11

from intaglio.core.outgoing import connect_to
from intaglio.enrollment.acme.validation.hosts import Hosts
from intaglio.enrollment.acme.validation.options import ValidationOptions
from intaglio.enrollment.acme.validation.values import Target, ValidationFailed

_PATH = "/.well-known/acme-challenge/"
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_HOPS = 50
_MOST_OCTETS = 4096  # a key authorization has fewer than 200; some servers add white space
_MOST_HEAD = 16384
_MOST_URL = 2000
_USER_AGENT = "Intaglio-ACME-validation/1"


@dataclass(frozen=True)
class _Answer:
    status: int
    location: str
    body: bytes


async def prove(hosts: Hosts, options: ValidationOptions, target: Target) -> None:
    """Return when the host answers with the key authorization.

    Raises ValidationFailed (dns, connection, tls, unauthorized, incorrectResponse).
    """
    host = f"[{target.value}]" if target.kind == "ip" and ":" in target.value else target.value
    port = "" if options.http_port == 80 else f":{options.http_port}"
    url = f"http://{host}{port}{_PATH}{target.token}"
    answer = await _fetch_patiently(hosts, options, url)
    for _ in range(_MOST_HOPS):
        if answer.status not in _REDIRECTS:
            break
        url = _next(options, url, answer)
        answer = await _fetch_patiently(hosts, options, url)
    else:
        if answer.status in _REDIRECTS:
            raise ValidationFailed("connection", f"{target.value} redirects more than {_MOST_HOPS} times.")
    if answer.status != 200:
        raise ValidationFailed("unauthorized", f"{url} answers {answer.status} instead of 200.")
    if answer.body.rstrip() != target.key_authorization.encode("ascii"):
        shown = answer.body[:80].decode("ascii", "replace")
        raise ValidationFailed("unauthorized", f"{url} answers {shown!r}, not the key authorization of this challenge.")


def _next(options: ValidationOptions, url: str, answer: _Answer) -> str:
    if not options.http_redirects:
        raise ValidationFailed(
            "unauthorized",
            f"{url} redirects, and redirects are not followed here.",
            remedy="Answer the challenge at this address, or have redirects allowed at this endpoint.",
        )
    if not answer.location or len(answer.location) > _MOST_URL:
        raise ValidationFailed("connection", f"{url} redirects to nowhere.")
    try:
        return urljoin(url, answer.location)
    except ValueError:
        raise ValidationFailed("connection", f"{url} redirects to what is no address.") from None


async def _fetch_patiently(hosts: Hosts, options: ValidationOptions, url: str) -> _Answer:
    """Fetch, and again while the answer is 503."""
    for tried in range(options.http_retry_count + 1):
        if tried:
            await asyncio.sleep(options.http_retry_interval or (1 if tried == 1 else 2))
        answer = await _fetch_in_time(hosts, options, url)
        if answer.status != 503:
            break
    return answer


async def _fetch_in_time(hosts: Hosts, options: ValidationOptions, url: str) -> _Answer:
    try:
        async with asyncio.timeout(options.http_timeout):
            return await _fetch(hosts, options, url)
    except TimeoutError:
        raise ValidationFailed("connection", f"{url} did not answer within {options.http_timeout:g} s.") from None
    except ssl.SSLError as error:
        raise ValidationFailed("tls", f"{url} cannot be reached by TLS: {error.reason or 'refused'}.") from error
    except OSError:
        raise ValidationFailed("connection", f"{url} cannot be reached.") from None
    except (h11.ProtocolError, EOFError):
        raise ValidationFailed("connection", f"{url} does not speak HTTP.") from None


async def _fetch(hosts: Hosts, options: ValidationOptions, url: str) -> _Answer:
    parts, host, port = _taken_apart(options, url)
    tls, name = (_trusting(), host) if parts.scheme == "https" else (None, None)
    reader, writer = await connect_to(await hosts.addresses(host, port), port, tls=tls, server_hostname=name)
    try:
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MOST_HEAD)
        asked = parts.path + (f"?{parts.query}" if parts.query else "")
        headers = [("host", parts.netloc), ("user-agent", _USER_AGENT), ("accept", "*/*"), ("connection", "close")]
        request = h11.Request(method="GET", target=asked or "/", headers=headers)
        writer.write((connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b""))
        return await _answer(connection, reader)
    finally:
        writer.transport.abort()


def _taken_apart(options: ValidationOptions, url: str) -> tuple[SplitResult, str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        parts.geturl().encode("ascii")
    except ValueError:
        raise ValidationFailed("connection", f"{url[:200]!r} is no address of a page.") from None
    if parts.scheme not in ("http", "https") or not host or parts.username is not None:
        raise ValidationFailed("connection", f"{url[:200]} is not followed: only pages over HTTP and HTTPS are.")
    if port not in (80, 443, options.http_port):
        raise ValidationFailed("connection", f"{url[:200]} is not followed: only the ports 80 and 443 are.")
    return parts, host, port


@cache
def _trusting() -> ssl.SSLContext:
    return ssl.create_default_context()


async def _answer(connection: h11.Connection, reader: asyncio.StreamReader) -> _Answer:
    """The answer, of which no more than is needed is read."""
    status, location, body = 0, "", b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(8192))
        elif isinstance(event, h11.Response):
            status = event.status_code
            location = next((value.decode("latin-1") for name, value in event.headers if name == b"location"), "")
            if status != 200:
                return _Answer(status, location, b"")
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
            if len(body) > _MOST_OCTETS:
                raise ValidationFailed("incorrectResponse", f"The answer has more than {_MOST_OCTETS} octets.")
        elif isinstance(event, h11.EndOfMessage):
            return _Answer(status, location, body)
        elif not isinstance(event, h11.InformationalResponse):
            raise EOFError
