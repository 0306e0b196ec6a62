"""Measuring instead of computing: how long after a revocation an ingress refuses the certificate.

Like a client it connects anew each time, verifies the server, and sends a request, because with TLS 1.3 a server says
only after the handshake that it does not take the certificate.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from intaglio.core.clock import monotonic
from intaglio.core.errors import InvalidInput, StateConflict, TimedOut, Unavailable

_ATTEMPT_SECONDS: Final = 10.0
_PAUSE_SECONDS: Final = 0.2
#: Answers of ingresses that did not take a certificate: 400 (nginx, with its own page), 401, 403, 495, 496 and, while
#: nobody can be asked, 503.
_REFUSING: Final = frozenset({400, 401, 403, 495, 496, 503})
_HEAD_LIMIT: Final = 65_536


@dataclass(frozen=True)
class Target:
    """An ingress as a client reaches it. ``server_name`` is verified in its certificate against ``ca_file`` (PEM), or
    the trust store of this host where there is none. ``path`` is asked for by GET."""

    host: str
    port: int
    server_name: str
    ca_file: Path | None = None
    path: str = "/"


@dataclass(frozen=True)
class ClientFiles:
    """The certificate with its chain and the private key of a client, PEM files."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Answer:
    """What came of one attempt: whether the client got through, and the status or TLS alert that says so."""

    accepted: bool
    said: str


async def measure_refusal(
    target: Target,
    client: ClientFiles,
    revoke: Callable[[], Awaitable[object]],
    *,
    patience: float = 120.0,
    refusals: int = 2,
) -> float:
    """Seconds from the moment ``revoke`` was called until the ingress refuses the certificate, for good.

    The certificate has to be accepted before (otherwise StateConflict ``not-accepted-before``), and refused
    ``refusals`` times running, so that of several processes behind one address not only the first has heard. The
    first of these refusals counts. Raises TimedOut (``not-refused``) after ``patience`` seconds, Unavailable when
    nothing listens, InvalidInput when the files cannot be used.
    """
    before = await attempt(target, client)
    if not before.accepted:
        raise StateConflict(
            f"{target.server_name}:{target.port} does not accept the certificate before it is revoked: {before.said}.",
            code="not-accepted-before",
            remedy="Look at its trust bundle and its mode, and whether it enforces at all.",
        )
    started = monotonic()
    await revoke()
    first: float | None = None
    running = 0
    while True:
        asked = monotonic()
        answer = await attempt(target, client)
        if answer.accepted:
            first, running = None, 0
        else:
            first, running = (asked if first is None else first), running + 1
            if running >= refusals:
                return max(0.0, first - started)
        if monotonic() - started > patience:
            raise TimedOut(
                f"{target.server_name}:{target.port} still accepts the certificate after {patience:g} seconds.",
                code="not-refused",
                remedy="Look at its refresh timer, and compute its bound: intaglio mtls render latency.",
            )
        await asyncio.sleep(_PAUSE_SECONDS)


async def attempt(target: Target, client: ClientFiles) -> Answer:
    """One request with the certificate, on a connection of its own. Raises Unavailable, InvalidInput."""
    context = _context(target, client)
    try:
        async with asyncio.timeout(_ATTEMPT_SECONDS):
            return await _request(target, context)
    except TimeoutError:
        return Answer(False, "no answer in time")
    except ssl.SSLCertVerificationError as error:
        raise Unavailable(
            f"The certificate of {target.server_name} is not good: {error.verify_message}.",
            code="server-unverified",
            remedy="Name the CA of the server's certificate.",
        ) from None
    except ssl.SSLError as error:
        return Answer(False, (error.reason or "TLS error").lower().replace("_", " "))
    except ConnectionRefusedError:
        raise Unavailable(f"Nothing listens at {target.host}:{target.port}.", code="target-unreachable") from None
    except (ConnectionError, asyncio.IncompleteReadError):
        return Answer(False, "the connection was ended")
    except OSError as error:
        raise Unavailable(
            f"{target.host}:{target.port} cannot be reached: {error.strerror or error}.", code="target-unreachable"
        ) from None


async def _request(target: Target, context: ssl.SSLContext) -> Answer:
    reader, writer = await asyncio.open_connection(
        target.host, target.port, ssl=context, server_hostname=target.server_name, limit=_HEAD_LIMIT
    )
    try:
        asked = f"GET {target.path} HTTP/1.1\r\nHost: {target.server_name}\r\nConnection: close\r\n\r\n"
        writer.write(asked.encode("ascii"))
        await writer.drain()
        line = await reader.readline()
    except ValueError:
        return Answer(False, "an answer that is not HTTP")
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            await writer.wait_closed()
    parts = line.split(b" ", 2)
    if not line.startswith(b"HTTP/1.") or len(parts) < 2 or not parts[1].isdigit():
        return Answer(False, "an answer that is not HTTP" if line else "the connection was ended")
    status = int(parts[1])
    return Answer(status not in _REFUSING, f"HTTP {status}")


def _context(target: Target, client: ClientFiles) -> ssl.SSLContext:
    """A client that verifies the server. A new one for every attempt: no session is resumed."""
    if any(not character.isprintable() or character == " " for character in target.path + target.server_name):
        raise InvalidInput("The path and the name of the server have no spaces and no control characters.")
    try:
        context = ssl.create_default_context(cafile=None if target.ca_file is None else str(target.ca_file))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(client.certificate, client.key)
    except (OSError, ssl.SSLError) as error:
        raise InvalidInput(
            f"The certificate, key or CA file cannot be used: {error.strerror or error}.", code="client-files-unusable"
        ) from None
    return context
