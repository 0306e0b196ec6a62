"""Name constraints of CA certificates. Source: RFC 5280 sections 4.2.1.10 and 6.1.3 (b), (c)."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from intaglio.asn1 import der
from intaglio.core.errors import InvalidInput
from intaglio.x509.certificates import CertificateInfo
from intaglio.x509.extensions import NAME_CONSTRAINTS
from intaglio.x509.names import Name

_MOST_SUBTREES = 1_000
_DNS, _EMAIL, _URI, _DIRECTORY, _IP = 0x82, 0x81, 0x86, 0xA4, 0x87
_EMAIL_ATTRIBUTE = "1.2.840.113549.1.9.1"


@dataclass(frozen=True)
class Subtree:
    """The base of a GeneralSubtree: tag of the general name, and its content octets."""

    tag: int
    content: bytes


@dataclass(frozen=True)
class Constraints:
    """Permitted and excluded subtrees of one CA certificate."""

    permitted: tuple[Subtree, ...]
    excluded: tuple[Subtree, ...]

    @classmethod
    def of(cls, info: CertificateInfo) -> Constraints | None:
        """The constraints in a certificate. Raises InvalidInput (``invalid-der``)."""
        found = info.extension(NAME_CONSTRAINTS)
        if found is None:
            return None
        reader = der.Reader(found.value).enter()
        permitted, excluded = reader.optional(0xA0), reader.optional(0xA1)
        reader.finish()
        return cls(*(tuple(_subtrees(each)) if each else () for each in (permitted, excluded)))

    def broken_by(self, info: CertificateInfo) -> str | None:
        """The first name of ``info`` that is not allowed, in words; None when all are.

        A constraint of a kind that cannot be judged here counts as broken when a name of that kind is present.
        """
        for tag, content, text in _names(info):
            if tag not in _COMPARE and any(subtree.tag == tag for subtree in (*self.permitted, *self.excluded)):
                return f"{text} is of a kind whose constraint is not understood"
            if any(subtree.tag == tag and _matches(subtree, content) for subtree in self.excluded):
                return f"{text} is excluded"
            same = [subtree for subtree in self.permitted if subtree.tag == tag]
            if same and not any(_matches(subtree, content) for subtree in same):
                return f"{text} is not permitted"
        return None


def _subtrees(element: der.Element) -> Iterator[Subtree]:
    for each in der.children(element.content, _MOST_SUBTREES):
        reader = der.Reader(each.content)
        base = reader.read()
        if not reader.at_end:  # RFC 5280 allows neither minimum nor maximum
            raise der.not_der("a name constraint has a minimum or maximum")
        yield Subtree(base.tag, base.content)


def _names(info: CertificateInfo) -> Iterator[tuple[int, bytes, str]]:
    """(tag, content, text) of every name that constraints apply to, the subject included."""
    if not info.subject.is_empty:
        yield _DIRECTORY, info.subject.der, f"the subject {info.subject}"
        if info.san is None or not info.san.of_type("email"):
            for address in info.subject.values(_EMAIL_ATTRIBUTE):
                yield _EMAIL, address.encode("utf-8", "replace"), address
    for name in info.san.entries if info.san else ():
        tag, start, stop = der.header(name.der, 0, len(name.der))
        yield tag, name.der[start:stop], name.text


def _matches(subtree: Subtree, content: bytes) -> bool:
    return _COMPARE[subtree.tag](subtree.content, content)


def _dns(constraint: bytes, name: bytes) -> bool:
    base, host = _text(constraint).lstrip("."), _text(name)
    return base == "" or host == base or host.endswith(f".{base}")


def _email(constraint: bytes, name: bytes) -> bool:
    base, address = _text(constraint), _text(name)
    host = address.rpartition("@")[2]
    if "@" in base:
        return address == base
    return host.endswith(base) if base.startswith(".") else host == base


def _uri(constraint: bytes, name: bytes) -> bool:
    try:
        host = urlsplit(_text(name)).hostname or ""
    except ValueError:
        return False
    base = _text(constraint)
    return host.endswith(base) if base.startswith(".") else host == base


def _ip(constraint: bytes, name: bytes) -> bool:
    if len(constraint) != 2 * len(name) or len(name) not in (4, 16):
        return False
    half = len(name)
    network = ipaddress.ip_address(constraint[:half])
    mask = int.from_bytes(constraint[half:], "big")
    return int(ipaddress.ip_address(name)) & mask == int(network) & mask


def _directory(constraint: bytes, name: bytes) -> bool:
    try:
        base = Name.from_der(der.read_tlv(constraint, der.SEQUENCE).der).attributes
        subject = Name.from_der(der.read_tlv(name, der.SEQUENCE).der).attributes
    except InvalidInput:
        return False
    keys = [[(a.oid, a.value.casefold()) for a in rdn] for rdn in subject[: len(base)]]
    return keys == [[(a.oid, a.value.casefold()) for a in rdn] for rdn in base]


def _text(content: bytes) -> str:
    return content.decode("ascii", "replace").lower()


_COMPARE: dict[int, Callable[[bytes, bytes], bool]] = {
    _DNS: _dns,
    _EMAIL: _email,
    _URI: _uri,
    _IP: _ip,
    _DIRECTORY: _directory,
}
