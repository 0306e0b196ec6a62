"""Reading an attribute of one entry of a directory: bind, look, unbind. Over ldap, StartTLS or ldaps.

A client for just this is two hundred lines, asynchronous, limited in everything, and verifies servers as our other
clients do. Sources: RFC 4511, RFC 4513 (authentication and StartTLS), RFC 4523 (attributes of CRLs).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import urlsplit

from pydantic import SecretStr

from intaglio.asn1 import der
from intaglio.core.errors import IntaglioError, Refused
from intaglio.core.outgoing import Guard
from intaglio.validation.sources import fetching
from intaglio.validation.sources.fetching import timed_out, too_large, trust_of, unreachable

_START_TLS = b"1.3.6.1.4.1.1466.20037"
_MOST_MESSAGES = 1_000
_MOST_ELEMENTS = 10_000  # in one container; entries have some dozens
_OVERHEAD = 64 * 1024  # octets of a message beside the values asked for
_PORTS = {"ldap": 389, "ldaps": 636}

_BIND, _BOUND, _UNBIND = 0x60, 0x61, 0x42
_SEARCH, _FOUND, _SEARCHED, _ELSEWHERE = 0x63, 0x64, 0x65, 0x73
_EXTENDED, _EXTENDED_ANSWER = 0x77, 0x78


@dataclass(frozen=True)
class Directory:
    """An LDAP server and how to log in: anonymously, with a name alone, or with name and password."""

    name: str
    url: str
    start_tls: bool = False
    server_ca: str = field(default="", repr=False)
    user_name: str = ""
    password: SecretStr = field(default_factory=lambda: SecretStr(""))

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        parts = urlsplit(self.url)
        return parts.port or _PORTS[parts.scheme]

    @property
    def tls(self) -> ssl.SSLContext | None:
        """The context for a server that speaks TLS from the first octet."""
        return trust_of(self.server_ca) if self.url.startswith("ldaps:") else None


async def read_attribute(
    directory: Directory, guard: Guard, entry: str, attribute: str, *, timeout: timedelta, limit: int
) -> list[bytes]:
    """The values of an attribute of the entry with this distinguished name; never none.

    ``timeout`` is for connecting and for every silence, ``limit`` in octets of all values together. Raises Unavailable
    (``source-unreachable``), TimedOut (``source-timeout``), TooLarge (``source-too-large``), Refused
    (``directory-refused``, ``address-not-allowed``).
    """
    where = f"The directory {directory.name}"
    try:
        async with asyncio.timeout(fetching.LONGEST_FETCH):
            session = await _Session.open(directory, guard, timeout.total_seconds(), limit)
            try:
                await session.log_in(directory)
                return await session.values(entry, attribute)
            finally:
                await session.close()
    except TimeoutError:
        raise timed_out(where) from None
    except (OSError, asyncio.IncompleteReadError, ValueError) as error:
        raise unreachable(where, str(error) or type(error).__name__) from None


class _Session:
    """One connection; each message must arrive within the time limit."""

    def __init__(
        self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, patience: float, limit: int
    ) -> None:
        self._name = name
        self._reader, self._writer = reader, writer
        self._patience, self._limit = patience, limit
        self._last = 0

    @classmethod
    async def open(cls, directory: Directory, guard: Guard, patience: float, limit: int) -> _Session:
        async with asyncio.timeout(patience):
            reader, writer = await guard.connect(directory.host, directory.port, tls=directory.tls)
        return cls(directory.name, reader, writer, patience, limit)

    async def log_in(self, directory: Directory) -> None:
        """StartTLS where it is wanted, then a simple bind. Source: RFC 4513 sections 3 and 5.1."""
        if directory.start_tls:
            await self._send(_EXTENDED, der.implicit(0, _START_TLS))
            self._require_success(await self._answer(_EXTENDED_ANSWER), "StartTLS")
            if self._reader._buffer:  # type: ignore[attr-defined] # would be taken for what came over TLS
                raise self._refused("it sends something between its answer and TLS")
            async with asyncio.timeout(self._patience):
                await self._writer.start_tls(trust_of(directory.server_ca), server_hostname=directory.host)
        password = directory.password.get_secret_value().encode()
        name = directory.user_name.encode()
        await self._send(_BIND, der.integer(3) + der.octet_string(name) + der.implicit(0, password))
        self._require_success(await self._answer(_BOUND), "the login")

    async def values(self, entry: str, attribute: str) -> list[bytes]:
        """A search for the entry itself. Source: RFC 4511 section 4.5."""
        await self._send(
            _SEARCH,
            der.octet_string(entry.encode())
            + der.enumerated(0)  # the base object
            + der.enumerated(0)  # aliases are not followed
            + der.integer(1)
            + der.integer(max(1, int(self._patience)))
            + der.boolean(False)
            + der.implicit(7, b"objectClass")
            + der.sequence(der.octet_string(attribute.encode())),
        )
        found: list[bytes] = []
        for _ in range(_MOST_MESSAGES):
            tag, content = await self._message()
            if tag == _FOUND:
                found += _values(content, attribute)
                if sum(map(len, found)) > self._limit:
                    raise too_large(f"What the directory {self._name} sends", self._limit)
            elif tag == _SEARCHED:
                self._require_success(content, "the search")
                if not found:
                    raise self._refused(f'the entry has no "{attribute}"')
                return found
            elif tag != _ELSEWHERE:
                raise self._refused("it answers something that was not asked")
        raise self._refused("it does not come to an end")

    async def close(self) -> None:
        """Unbind, without waiting for anything."""
        try:
            await self._send(_UNBIND, b"")
        except OSError:
            pass  # it is gone already
        finally:
            self._writer.close()

    async def _send(self, tag: int, content: bytes) -> None:
        self._last += 1
        self._writer.write(der.sequence(der.integer(self._last), der.tlv(tag, content)))
        async with asyncio.timeout(self._patience):
            await self._writer.drain()

    async def _answer(self, wanted: int) -> bytes:
        tag, content = await self._message()
        if tag != wanted:
            raise self._refused("it answers something that was not asked")
        return content

    async def _message(self) -> tuple[int, bytes]:
        """Tag and content of the next message. A notice of disconnection has the tag of another answer."""
        head = await self._octets(2)
        length = head[1]
        if length > 0x80:
            length = int.from_bytes(await self._octets(length & 0x7F if length <= 0x84 else 9), "big")
        if head[0] != 0x30 or head[1] == 0x80:
            raise self._refused("it does not speak LDAP")
        if length > self._limit + _OVERHEAD:
            raise too_large(f"What the directory {self._name} sends", self._limit)
        parts = list(_elements(await self._octets(length)))
        if len(parts) < 2 or parts[0] != (der.INTEGER, self._last.to_bytes(1, "big")):
            raise self._refused("it answers something that was not asked")
        return parts[1]

    async def _octets(self, count: int) -> bytes:
        """Exactly so many; each piece of them must arrive within the time limit."""
        pieces, missing = [], count
        while missing:
            async with asyncio.timeout(self._patience):
                piece = await self._reader.read(min(missing, 1 << 20))
            if not piece:
                raise asyncio.IncompleteReadError(b"", missing)
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    def _require_success(self, result: bytes, what: str) -> None:
        """Source: RFC 4511 section 4.1.9."""
        parts = list(_elements(result))
        if len(parts) < 3 or parts[0][0] != der.ENUMERATED or len(parts[0][1]) != 1:
            raise self._refused("it does not speak LDAP")
        code = parts[0][1][0]
        if code:
            told = "".join(c for c in parts[2][1].decode("utf-8", "replace")[:200] if c.isprintable())
            raise self._refused(f"{what} failed: {_CODES.get(code, f'result {code}')}{f' ({told})' if told else ''}")

    def _refused(self, why: str) -> IntaglioError:
        return Refused(
            f"The directory {self._name} cannot be read: {why}.",
            code="directory-refused",
            remedy="Look at it with ldapsearch.",
        )


_CODES = {
    1: "operations error", 7: "the kind of login is not supported", 8: "stronger authentication is required",
    13: "confidentiality is required; use start_tls or ldaps", 16: "no such attribute", 32: "there is no such entry",
    34: "the distinguished name is not one", 48: "this kind of login is not allowed",
    49: "the name or the password is wrong", 50: "insufficient access rights", 51: "it is busy",
    52: "it is unavailable", 53: "it is unwilling to",
}  # fmt: skip


def _values(content: bytes, attribute: str) -> list[bytes]:
    """The values of an attribute in a SearchResultEntry, whose name may come back without its options."""
    base = attribute.partition(";")[0].lower().encode()
    parts = list(_elements(content))
    found: list[bytes] = []
    for _, described in _elements(parts[1][1]) if len(parts) > 1 else ():
        members = list(_elements(described))
        if len(members) == 2 and members[0][1].partition(b";")[0].lower() == base:
            found += [value for _, value in _elements(members[1][1])]
    return found


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tags and contents of the TLVs in ``data``: BER with definite lengths, which servers pad. Raises ValueError."""
    position, end, count = 0, len(data), 0
    while position < end:
        if (count := count + 1) > _MOST_ELEMENTS:
            raise ValueError("a message has too many parts")
        if end - position < 2:
            raise ValueError("a message is cut off")
        tag, length = data[position], data[position + 1]
        position += 2
        if length >= 0x80:
            octets = length & 0x7F
            if not 0 < octets <= 4 or position + octets > end:
                raise ValueError("a length is not definite")
            length = int.from_bytes(data[position : position + octets], "big")
            position += octets
        if position + length > end:
            raise ValueError("a message is cut off")
        yield tag, data[position : position + length]
        position += length
