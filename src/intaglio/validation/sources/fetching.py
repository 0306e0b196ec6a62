"""Reading a file over HTTP into a temporary one: only when it changed, within limits of size, time and redirections.

The file goes to disk and not into memory: lists of serial numbers have hundreds of megabytes.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import BinaryIO
from urllib.parse import urljoin, urlsplit

import httpx

from intaglio.core.errors import IntaglioError, Refused, TimedOut, TooLarge, Unavailable
from intaglio.core.outgoing import Guard
from intaglio.platform import outgoing

_MOST_REDIRECTIONS = 3
#: However slowly a server sends, reading ends after this many seconds.
LONGEST_FETCH = 1_800.0
#: How much older than the answer a Last-Modified must be to tell one file from the next.
_PROVING_AGE = timedelta(seconds=2)
_REDIRECTIONS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True)
class Fetched:
    """A file as it was sent. ``file`` is at its beginning and vanishes when it is closed."""

    file: BinaryIO
    octets: int
    digest: bytes
    etag: str | None = None
    last_modified: str | None = None

    def read(self) -> bytes:
        """All of it."""
        self.file.seek(0)
        return self.file.read()

    def close(self) -> None:
        self.file.close()


@dataclass(frozen=True)
class Known:
    """What was said about the file that was read last, so that it is sent only when it is another one."""

    etag: str | None = None
    last_modified: str | None = None

    def headers(self) -> dict[str, str]:
        """Of a conditional request. Source: RFC 9110 sections 13.1.2 and 13.1.3."""
        if self.etag:
            return {"If-None-Match": self.etag}
        return {"If-Modified-Since": self.last_modified} if self.last_modified else {}


def trust_of(server_ca: str) -> ssl.SSLContext:
    """A TLS context that verifies servers against these CAs (PEM), or against those the system trusts."""
    context = ssl.create_default_context(cadata=server_ca or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if server_ca:
        # What was set is trusted, also when it is an issuing CA or the pinned certificate of the server itself.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


async def fetch(
    url: str, guard: Guard, tls: ssl.SSLContext, *, timeout: timedelta, limit: int, known: Known
) -> Fetched | None:
    """The file at a URL; None when the server says that it is the one that is known.

    ``timeout`` is for connecting and for every silence, ``limit`` in octets. Raises Unavailable
    (``source-unreachable``), TimedOut (``source-timeout``), TooLarge (``source-too-large``), Refused
    (``source-refused``, ``address-not-allowed``).
    """
    try:
        async with (
            asyncio.timeout(LONGEST_FETCH),
            outgoing.http_client(guard, tls, timeout=timeout.total_seconds()) as client,
        ):
            return await _follow(client, url, known, limit)
    except (httpx.TimeoutException, TimeoutError):
        raise timed_out(url) from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise unreachable(url, str(error) or type(error).__name__) from None


def unreachable(where: str, why: str) -> Unavailable:
    """The refusal of a server that cannot be reached; ``why`` is for the administrator."""
    return Unavailable(f"{where} cannot be read: {why[:300]}.", code="source-unreachable", remedy="Is it running?")


def timed_out(where: str) -> TimedOut:
    """The refusal of a server that takes too long."""
    return TimedOut(f"{where} does not answer in time.", code="source-timeout")


async def _follow(client: httpx.AsyncClient, url: str, known: Known, limit: int) -> Fetched | None:
    headers = {"Accept": "*/*", "Accept-Encoding": "identity", **known.headers()}
    for _ in range(_MOST_REDIRECTIONS + 1):
        async with client.stream("GET", url, headers=headers) as response:
            if response.status_code == 304 and known.headers():
                return None
            if response.status_code not in _REDIRECTIONS:
                return await _received(url, response, limit)
            url = _redirected(url, response.headers.get("location", ""))
    raise _refused(url, f"there are more than {_MOST_REDIRECTIONS} redirections")


def _redirected(url: str, location: str) -> str:
    target = urljoin(url, location)
    wanted = ("https",) if url.startswith("https:") else ("http", "https")
    if not location or urlsplit(target).scheme not in wanted:
        raise _refused(url, "it redirects to nowhere, or from https to something less")
    return target


async def _received(url: str, response: httpx.Response, limit: int) -> Fetched:
    if response.status_code != 200:
        raise _refused(url, f"the server answers {response.status_code}")
    if response.headers.get("content-encoding", "identity") not in ("", "identity"):
        raise _refused(url, "the server sends it compressed, which nobody asked for")
    announced = response.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise too_large(url, limit)
    file, digest, octets = tempfile.TemporaryFile(), hashlib.sha256(), 0  # noqa: SIM115 - the caller closes it
    try:
        async for chunk in response.aiter_raw():
            octets += len(chunk)
            if octets > limit:
                raise too_large(url, limit)
            digest.update(chunk)
            await asyncio.to_thread(file.write, chunk) if octets > 1_000_000 else file.write(chunk)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    etag, modified = response.headers.get("etag"), response.headers.get("last-modified")
    if modified is not None and not _proves(modified, response.headers.get("date")):
        # The entity tags of most web servers are made of that same time and the size.
        etag = modified = None
    return Fetched(file, octets, digest.digest(), _short(etag), _short(modified))


def in_memory(data: bytes) -> Fetched:
    """Octets that came otherwise (from a directory), as a file like the others."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    file.write(data)
    file.seek(0)
    return Fetched(file, len(data), hashlib.sha256(data).digest())


def too_large(where: str, limit: int) -> TooLarge:
    """The refusal of something longer than ``limit`` octets."""
    return TooLarge(
        f"{where} is larger than {limit / (1 << 20):.0f} MiB.",
        code="source-too-large",
        remedy="Raise max_crl_mib if it is meant to be.",
    )


def _proves(modified: str | None, date: str | None) -> bool:
    """Whether a Last-Modified, and an entity tag made of it, tell this file from every later one: two files of one
    second have the same.

    Source: RFC 9110 section 8.8.2.2.
    """
    try:
        age: timedelta = parsedate_to_datetime(date or "") - parsedate_to_datetime(modified or "")
    except (ValueError, TypeError, OverflowError):
        return False
    return age >= _PROVING_AGE


def _short(value: str | None) -> str | None:
    return value if value and len(value) <= 200 else None


def _refused(url: str, why: str) -> IntaglioError:
    return Refused(f"{url} cannot be read: {why}.", code="source-refused", remedy="Look at it with curl.")
