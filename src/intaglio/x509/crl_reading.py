"""Reading certificate revocation lists of any size: the frame is parsed once, the entries are walked over in place.

An entry takes about a microsecond and no memory of its own; what occurs again and again (times, extensions) is
understood once. Sources: RFC 5280 section 5, X.690.
"""

from __future__ import annotations

import binascii
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from intaglio.asn1 import algorithms, der
from intaglio.core.errors import InvalidInput, Refused
from intaglio.x509 import extensions as ext
from intaglio.x509.names import Name

#: Reasons that an entry can give; 7 is not used. Source: RFC 5280 section 5.3.1.
REASONS = frozenset({0, 1, 2, 3, 4, 5, 6, 8, 9, 10})
HOLD, REMOVE_FROM_CRL = 6, 8
EXPIRED_CERTS_ON_CRL = "2.5.29.60"
_HOLD_INSTRUCTION = "2.5.29.23"
_UNDERSTOOD = frozenset(
    {
        ext.AUTHORITY_KEY_IDENTIFIER, ext.ISSUER_ALT_NAME, ext.CRL_NUMBER, ext.DELTA_CRL_INDICATOR,
        ext.ISSUING_DISTRIBUTION_POINT, ext.FRESHEST_CRL, ext.AUTHORITY_INFORMATION_ACCESS, EXPIRED_CERTS_ON_CRL,
    }
)  # fmt: skip
_LONGEST_SERIAL = 40  # octets; RFC 5280 has 20, some CAs have more
_MOST_REMEMBERED = 50_000
_MOST_NAMES, _DIRECTORY_NAME = 20, 0xA4
_MOST_REASON_OCTETS = 2  # nine of them are defined
_BEGIN, _END = b"-----BEGIN X509 CRL-----", b"-----END X509 CRL-----"


class Entry(NamedTuple):
    """One revoked certificate. ``serial`` is minimal and big-endian; ``reason`` a CRLReason code, if one is given."""

    serial: bytes
    revoked_at: datetime
    reason: int | None
    invalidity_at: datetime | None


@dataclass(frozen=True)
class Scope:
    """What a CRL is about: an IssuingDistributionPoint. ``point`` is its DER name, empty without one; ``reasons`` are
    the numbers of those it is about (ReasonFlags), None for all; an ``indirect`` one has entries of several CAs."""

    point: bytes = b""
    urls: tuple[str, ...] = ()
    only_user: bool = False
    only_ca: bool = False
    only_attribute: bool = False
    reasons: frozenset[int] | None = None
    indirect: bool = False


@dataclass(frozen=True)
class Crl:
    """A parsed CRL whose signature has not been looked at. ``delta_base`` is the base CRL number of a delta CRL."""

    data: bytes = field(repr=False)
    tbs: memoryview = field(repr=False)
    signature_identifier: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    issuer: Name
    this_update: datetime
    next_update: datetime | None
    number: int | None
    delta_base: int | None
    scope: Scope
    authority_key: bytes | None
    keeps_expired: bool
    _entries: tuple[int, int] = field(repr=False)

    @property
    def is_delta(self) -> bool:
        return self.delta_base is not None

    @property
    def entries_octets(self) -> int:
        """Octets of all entries together."""
        return self._entries[1] - self._entries[0]

    def entries(self, about: Collection[bytes] = ()) -> Iterator[Entry]:
        """The entries in their order; those with negative serial numbers, which nobody can ask about, are left out.
        Of an indirect CRL only those about certificates of CAs whose names have one of these keys (``Name.key``).

        Raises InvalidInput (``invalid-der``) at an entry that is not one, Refused (``crl-not-understood``) at one with
        a critical extension that is not understood, or of another issuer in a CRL that is not indirect.
        """
        wanted = _Wanted(frozenset(about), self.issuer.key) if self.scope.indirect else None
        return _walk(self.data, *self._entries, delta=self.is_delta, wanted=wanted)

    def is_signed_by(self, spki: bytes) -> bool:
        """Whether the signature is valid under the DER SubjectPublicKeyInfo; it takes time with the size of the CRL."""
        return verify_signature(spki, self.signature_identifier, self.signature, self.tbs)


def read_crl(data: bytes) -> Crl:
    """Parse the frame of a CRL in DER or PEM; its entries are only walked over when they are asked for.

    Raises InvalidInput (``invalid-der``, ``invalid-pem``), Refused (``crl-not-understood``) for a critical extension
    that is not understood.
    """
    if data[:1] != b"\x30":
        data = _from_pem(data)
    tag, start, stop = der.header(data, 0, len(data))
    if tag != der.SEQUENCE or stop != len(data):
        raise der.not_der("a CRL is one SEQUENCE with nothing behind it")
    tbs_tag, tbs_start, tbs_stop = der.header(data, start, stop)
    if tbs_tag != der.SEQUENCE:
        raise der.unexpected_tag(der.SEQUENCE, tbs_tag)
    tail = der.Reader(data[tbs_stop:stop])
    identifier, bits = tail.read(der.SEQUENCE).der, tail.read(der.BIT_STRING).content
    tail.finish()
    signature, unused = der.decode_bit_string(bits)
    if unused:
        raise der.not_der("a signature has whole octets")
    frame = _read_tbs(data, tbs_start, tbs_stop)
    if frame.identifier != identifier:
        raise der.not_der("the signature algorithm inside and outside differ")
    found = {extension.oid: extension for extension in frame.extensions}
    for extension in frame.extensions:
        if extension.critical and extension.oid not in _UNDERSTOOD:
            raise _not_understood(f"it has the critical extension {extension.oid}")
    return Crl(
        data=data,
        tbs=memoryview(data)[start:tbs_stop],
        signature_identifier=identifier,
        signature=signature,
        issuer=Name.from_der(frame.issuer),
        this_update=frame.this_update,
        next_update=frame.next_update,
        number=_number(found.get(ext.CRL_NUMBER)),
        delta_base=_number(found.get(ext.DELTA_CRL_INDICATOR)),
        scope=_scope(found.get(ext.ISSUING_DISTRIBUTION_POINT)),
        authority_key=_authority_key(found.get(ext.AUTHORITY_KEY_IDENTIFIER)),
        keeps_expired=EXPIRED_CERTS_ON_CRL in found,
        _entries=frame.entries,
    )


# ---- the frame -------------------------------------------------------------------------------------------------------


class _Frame(NamedTuple):
    identifier: bytes
    issuer: bytes
    this_update: datetime
    next_update: datetime | None
    entries: tuple[int, int]
    extensions: tuple[ext.Extension, ...]


def _read_tbs(data: bytes, position: int, end: int) -> _Frame:
    """The members of a TBSCertList; of the entries only where they are. Source: RFC 5280 section 5.1.2."""

    def element() -> der.Element | None:
        nonlocal position
        if position == end:
            return None
        tag, start, stop = der.header(data, position, end)
        found = der.Element(tag, data[start:stop], data[position:stop])
        position = stop
        return found

    def needed(*tags: int) -> der.Element:
        found = element()
        if found is None or found.tag not in tags:
            raise der.not_der("a CRL has an algorithm, an issuer and a date")
        return found

    version = 0
    if data[position : position + 1] == b"\x02":
        version = der.decode_integer(needed(der.INTEGER).content)
    if version not in (0, 1):
        raise der.not_der("there is no such version of a CRL")
    identifier, issuer = needed(der.SEQUENCE).der, needed(der.SEQUENCE).der
    this_update = der.decode_time(needed(der.UTC_TIME, der.GENERALIZED_TIME))
    next_update = None
    if position < end and data[position] in (der.UTC_TIME, der.GENERALIZED_TIME):
        next_update = der.decode_time(needed(der.UTC_TIME, der.GENERALIZED_TIME))
    entries = (position, position)
    if position < end and data[position] == der.SEQUENCE:
        _, first, position = der.header(data, position, end)
        entries = (first, position)
    extensions: tuple[ext.Extension, ...] = ()
    if position < end and data[position] == 0xA0:
        content = needed(0xA0).content
        extensions = ext.read_extensions(der.read_tlv(content, der.SEQUENCE).content)
        if not version:
            raise der.not_der("extensions need version 2")
    if position != end:
        raise der.not_der("there is trailing data in a CRL")
    return _Frame(identifier, issuer, this_update, next_update, entries, extensions)


def _from_pem(data: bytes) -> bytes:
    start = data.find(_BEGIN)
    stop = data.find(_END, start)
    if start < 0 or stop < 0:
        raise InvalidInput("This is neither a CRL in DER nor in PEM.", code="invalid-pem")
    try:
        return binascii.a2b_base64(b"".join(data[start + len(_BEGIN) : stop].split()), strict_mode=True)
    except binascii.Error:
        raise InvalidInput("The CRL is not valid base64.", code="invalid-pem") from None


def _number(extension: ext.Extension | None) -> int | None:
    if extension is None:
        return None
    content = der.read_tlv(extension.value, der.INTEGER).content
    if len(content) > 21:
        raise der.not_der("a CRL number is longer than 20 octets")
    number = der.decode_integer(content)
    if number < 0:
        raise der.not_der("a CRL number is negative")
    return number


def _authority_key(extension: ext.Extension | None) -> bytes | None:
    return None if extension is None else ext.read_authority_key_identifier(extension.value)


def _scope(extension: ext.Extension | None) -> Scope:
    """Source: RFC 5280 section 5.2.5."""
    if extension is None:
        return Scope()
    members = {
        each.tag: each for each in der.children(der.read_tlv(extension.value, der.SEQUENCE).content, 6)
    }
    point = members[0xA0].der if 0xA0 in members else b""
    urls: tuple[str, ...] = ()
    if point:
        # The same shape as in a distribution point of a certificate, so the same reader.
        urls = ext.read_distribution_point_urls(der.sequence(der.sequence(point)))
    flags = {tag: tag in members and der.decode_boolean(members[tag].content) for tag in (0x81, 0x82, 0x84, 0x85)}
    if not members.keys() <= {0xA0, 0x81, 0x82, 0x83, 0x84, 0x85}:
        raise der.not_der("an issuing distribution point has an unknown member")
    reasons = _reasons(members[0x83].content) if 0x83 in members else None
    return Scope(point, urls, flags[0x81], flags[0x82], flags[0x85], reasons, flags[0x84])


def _reasons(content: bytes) -> frozenset[int]:
    octets, _ = der.decode_bit_string(content)
    if len(octets) > _MOST_REASON_OCTETS:
        raise der.not_der("there are not as many reasons")
    bits = int.from_bytes(octets)
    return frozenset(number for number in range(8 * len(octets)) if bits >> (8 * len(octets) - 1 - number) & 1)


# ---- the entries -----------------------------------------------------------------------------------------------------


class _Wanted:
    """Whose certificates the entries of an indirect CRL are about: of the last CA that one named, to begin with of the
    issuer of the CRL. Source: RFC 5280 section 5.3.3."""

    def __init__(self, about: frozenset[bytes], issuer: bytes) -> None:
        self._about = about
        self._ours = issuer in about
        self._named: dict[bytes, bool | None] = {}

    def takes(self, rest: bytes) -> bool:
        """Whether the next entry, with these octets behind its date, is about a wanted certificate."""
        if rest not in self._named:
            if len(self._named) > _MOST_REMEMBERED:
                self._named.clear()
            named = _certificate_issuer(rest)
            self._named[rest] = None if named is None else named in self._about
        found = self._named[rest]
        if found is not None:
            self._ours = found
        return self._ours


def _certificate_issuer(rest: bytes) -> bytes | None:
    """The key of the name of the CA that an entry names, None when it names none."""
    if not rest:
        return None
    for extension in ext.read_extensions(der.read_tlv(rest, der.SEQUENCE).content):
        if extension.oid == ext.CERTIFICATE_ISSUER:
            names = der.children(der.read_tlv(extension.value, der.SEQUENCE).content, _MOST_NAMES)
            found = {Name.from_der(each.content).key for each in names if each.tag == _DIRECTORY_NAME}
            if len(found) != 1:
                raise _not_understood("an entry does not say whose certificate it is about")
            return found.pop()
    return None


def _walk(
    data: bytes, position: int, end: int, *, delta: bool, wanted: _Wanted | None = None
) -> Iterator[Entry]:
    times: dict[bytes, datetime] = {}
    details: dict[bytes, tuple[int | None, datetime | None]] = {b"": (None, None)}
    while position < end:
        # The usual entry is shorter than 128 octets, with a short serial number and a UTCTime.
        if end - position < 4 or data[position] != 0x30:
            raise der.not_der("an entry of a CRL is a SEQUENCE")
        length = data[position + 1]
        body = position + 2
        if length < 0x80:
            stop = body + length
            if stop > end:
                raise der.not_der("an entry runs past the end of the CRL")
        else:
            _, body, stop = der.header(data, position, end)
        position = stop
        octets = data[body + 1] if stop - body > 4 else 0
        when = body + 2 + octets
        if data[body] != 0x02 or not 0 < octets <= _LONGEST_SERIAL or when + 2 > stop:
            raise der.not_der("an entry of a CRL begins with a serial number")
        after = when + 2 + data[when + 1]
        if after > stop:
            raise der.not_der("a date runs past the end of its entry")
        moment = times.get(data[when:after])
        if moment is None:
            moment = _time(data, when, after)
            if len(times) > _MOST_REMEMBERED:
                times.clear()
            times[data[when:after]] = moment
        rest = data[after:stop]
        detail = details.get(rest)
        if detail is None:
            detail = _detail(rest, delta=delta, indirect=wanted is not None)
            if len(details) > _MOST_REMEMBERED:
                details.clear()
            details[rest] = detail
        if wanted is not None and not wanted.takes(rest):
            continue
        first = data[body + 2]
        if first >= 0x80:
            continue  # negative
        if first == 0 and octets > 1:
            yield Entry(data[body + 2 : when].lstrip(b"\0") or b"\0", moment, *detail)
        else:
            yield Entry(data[body + 2 : when], moment, *detail)


def _time(data: bytes, start: int, stop: int) -> datetime:
    return der.decode_time(der.Element(data[start], data[start + 2 : stop], data[start:stop]))


def _detail(rest: bytes, *, delta: bool, indirect: bool) -> tuple[int | None, datetime | None]:
    """Reason and invalidity date from the extensions of an entry. Source: RFC 5280 section 5.3."""
    reason: int | None = None
    invalidity_at: datetime | None = None
    for extension in ext.read_extensions(der.read_tlv(rest, der.SEQUENCE).content):
        if extension.oid == ext.REASON_CODE:
            reason = der.decode_integer(der.read_tlv(extension.value, der.ENUMERATED).content)
            if reason not in REASONS or (reason == REMOVE_FROM_CRL and not delta):
                raise der.not_der(f"an entry gives the reason {reason}")
        elif extension.oid == ext.INVALIDITY_DATE:
            invalidity_at = der.decode_time(der.read_tlv(extension.value))
        elif extension.oid == ext.CERTIFICATE_ISSUER:
            if indirect:
                continue
            raise _not_understood("it has entries of another issuer (an indirect CRL)")
        elif extension.critical and extension.oid != _HOLD_INSTRUCTION:
            raise _not_understood(f"an entry has the critical extension {extension.oid}")
    return reason, invalidity_at


def _not_understood(why: str) -> Refused:
    return Refused(f"The CRL cannot be used: {why}.", code="crl-not-understood")


# ---- the signature ---------------------------------------------------------------------------------------------------

_HASHES: dict[str, hashes.HashAlgorithm] = {
    "2.16.840.1.101.3.4.2.1": hashes.SHA256(),
    "2.16.840.1.101.3.4.2.2": hashes.SHA384(),
    "2.16.840.1.101.3.4.2.3": hashes.SHA512(),
}


def verify_signature(spki: bytes, identifier: bytes, signature: bytes, data: bytes | memoryview) -> bool:
    """Whether ``signature`` over ``data`` is valid under the DER SubjectPublicKeyInfo and AlgorithmIdentifier.

    Keys of any size; SHA-1 and MD5 are not trusted any more.
    """
    try:
        key = load_der_public_key(spki)
        reader = der.Reader(identifier).enter()
        oid = der.decode_oid(reader.read(der.OBJECT_IDENTIFIER).content)
        if oid == algorithms.RSASSA_PSS:
            return isinstance(key, rsa.RSAPublicKey) and _verify_pss(key, reader.read(der.SEQUENCE), signature, data)
        return algorithms.verify(key, oid, signature, data)  # type: ignore[arg-type]
    except (ValueError, UnsupportedAlgorithm, InvalidInput):
        return False


def _verify_pss(
    key: rsa.RSAPublicKey, parameters: der.Element, signature: bytes, data: bytes | memoryview
) -> bool:
    """RSASSA-PSS with MGF1 over the same hash. Source: RFC 4055 section 3.1."""
    members = {each.tag: der.read_tlv(each.content) for each in der.children(parameters.content, 4)}
    if not members.keys() >= {0xA0, 0xA1}:
        return False  # the defaults are SHA-1
    salt = der.decode_integer(members[0xA2].content) if 0xA2 in members else 20
    digest = members[0xA0].der
    generator = der.children(members[0xA1].content, 2)
    oid = der.decode_oid(der.Reader(digest).enter().read(der.OBJECT_IDENTIFIER).content)
    algorithm = _HASHES.get(oid)
    same = len(generator) == 2 and oid in der.decode_oid(der.children(generator[1].content, 2)[0].content)
    if algorithm is None or not same or not 0 <= salt <= 512:
        return False
    try:
        key.verify(signature, data, padding.PSS(padding.MGF1(algorithm), salt), algorithm)  # type: ignore[arg-type]
    except InvalidSignature:
        return False
    return True
