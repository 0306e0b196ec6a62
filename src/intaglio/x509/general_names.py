"""General names: the entries of a Subject Alternative Name. Source: RFC 5280 section 4.2.1.6.

What a request brings stays byte for byte; what is built here from text is checked against the syntax of its type first.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from intaglio.asn1 import der
from intaglio.core.errors import InvalidInput
from intaglio.x509.host_names import check_dns_name, check_email_address, check_uri
from intaglio.x509.names import Name

#: Most entries read from one extension unless the caller says otherwise.
MAX_GENERAL_NAMES = 1_000

#: id-ms-san-upn: the user principal name of Active Directory, a UTF8String in an otherName.
USER_PRINCIPAL_NAME = "1.3.6.1.4.1.311.20.2.3"

_TYPES = {
    0xA0: "otherName",
    0x81: "rfc822Name",
    0x82: "dNSName",
    0xA3: "x400Address",
    0xA4: "directoryName",
    0xA5: "ediPartyName",
    0x86: "uniformResourceIdentifier",
    0x87: "iPAddress",
    0x88: "registeredID",
}
_TAGS = {name: tag for tag, name in _TYPES.items()}
_UPN_LABEL = "userPrincipalName"
_UPN_ALIASES = frozenset({"userprincipalname", "userprinciplename", "upn", "msupn"})
_ALIASES = {
    **{name.lower(): name for name in _TAGS},
    "email": "rfc822Name",
    "mail": "rfc822Name",
    "dns": "dNSName",
    "ip": "iPAddress",
    "ipaddress": "iPAddress",
    "uri": "uniformResourceIdentifier",
    "url": "uniformResourceIdentifier",
    "dn": "directoryName",
    "dirname": "directoryName",
    "rid": "registeredID",
    "other": "otherName",
    **dict.fromkeys(_UPN_ALIASES, _UPN_LABEL),
}


class GeneralName(NamedTuple):
    """One general name: standard name of its type, text that ``GeneralNames.build`` reads back, and its TLV."""

    type: str
    text: str
    der: bytes


@dataclass(frozen=True)
class GeneralNames:
    """A non-empty sequence of general names; ``der`` is the GeneralNames SEQUENCE, the value of the extension."""

    der: bytes

    @classmethod
    def from_der(cls, data: bytes, *, max_names: int = MAX_GENERAL_NAMES) -> GeneralNames:
        """The names encoded in ``data``, checked and kept byte for byte.

        Raises InvalidInput: ``invalid-general-name`` (also for control characters and non-ASCII octets in dNSName,
        rfc822Name and URI), ``too-many-names`` above ``max_names``.
        """
        names = cls(data)
        object.__setattr__(names, "entries", _decode(data, max_names))
        return names

    @classmethod
    def build(cls, names: Iterable[tuple[str, str | bytes]]) -> GeneralNames:
        """General names from (type, value): type as in RFC 5280 or an alias (``dns``, ``ip``, ``email``, ``uri``,
        ``upn``), without regard to case; ``bytes`` are a finished GeneralName TLV of that type.

        Domains with U-labels become A-labels. An otherName is ``userPrincipalName=alice@example.com`` or
        ``1.2.3.4;UTF8:text``. Raises InvalidInput (``invalid-general-name``) when a value breaks its syntax.
        """
        return cls.from_der(der.sequence(*(_build(kind, value) for kind, value in names)))

    @cached_property
    def entries(self) -> tuple[GeneralName, ...]:
        """The general names in their order."""
        return _decode(self.der, MAX_GENERAL_NAMES)

    @property
    def text(self) -> list[str]:
        """For display: ``dNSName=www.example.com`` and so on."""
        return [f"{entry.type}={entry.text}" for entry in self.entries]

    def of_type(self, kind: str) -> tuple[GeneralName, ...]:
        """The entries of one type (standard name or alias; ``upn`` gives the user principal names)."""
        wanted = canonical_type(kind)
        if wanted == _UPN_LABEL:
            return tuple(e for e in self.entries if e.type == "otherName" and e.text.startswith(f"{_UPN_LABEL}="))
        return tuple(entry for entry in self.entries if entry.type == wanted)

    def with_names(self, others: GeneralNames) -> GeneralNames:
        """These names followed by those of ``others`` that are not among them (compared by type, without case)."""
        present = {(entry.type, entry.text.lower()) for entry in self.entries}
        added = b"".join(e.der for e in others.entries if (e.type, e.text.lower()) not in present)
        return GeneralNames.from_der(der.tlv(der.SEQUENCE, der.read_tlv(self.der).content + added)) if added else self

    def with_dns(self, names: Iterable[str]) -> GeneralNames:
        """These names followed by those of the DNS ``names`` that are not among them (compared without case)."""
        present = {entry.text.lower() for entry in self.of_type("dNSName")}
        added = b""
        for name in names:
            checked = check_dns_name(name)
            if checked.lower() not in present:
                present.add(checked.lower())
                added += der.tlv(_TAGS["dNSName"], checked.encode("ascii"))
        return GeneralNames.from_der(der.tlv(der.SEQUENCE, der.read_tlv(self.der).content + added)) if added else self


def canonical_type(kind: str) -> str:
    """Standard name of a general name type, or ``userPrincipalName``. Raises InvalidInput for an unknown type."""
    found = _ALIASES.get(kind.strip().lower())
    if found is None:
        raise _invalid(f'"{kind[:64]}" is not a type of general name', f"Use one of: {', '.join(_TAGS)}.")
    return found


# ---- reading ---------------------------------------------------------------------------------------------------------


def _decode(data: bytes, max_names: int) -> tuple[GeneralName, ...]:
    try:
        tag, position, end = der.header(data, 0, len(data))
        if tag != der.SEQUENCE or end != len(data) or position == end:
            raise der.not_der("general names are a SEQUENCE of at least one")
        entries: list[GeneralName] = []
        while position < end:
            first = position
            tag, start, position = der.header(data, position, end)
            if len(entries) == max_names:
                raise InvalidInput(
                    f"There are more than {max_names} subject alternative names.",
                    code="too-many-names",
                    remedy="Split the request into several certificates.",
                )
            kind = _TYPES.get(tag)
            if kind is None:
                raise der.not_der(f"0x{tag:02X} is not the tag of a general name")
            entries.append(GeneralName(kind, _READERS[kind](data[start:position]), data[first:position]))
    except InvalidInput as error:
        if error.code in ("too-many-names", "invalid-general-name"):
            raise
        raise _invalid(error.detail, error.remedy) from None
    return tuple(entries)


def _read_ia5(content: bytes) -> str:
    text = content.decode("latin-1")
    if not text or not text.isascii() or not text.isprintable():
        raise _invalid(
            "a dNSName, rfc822Name or URI is empty or has control or non-ASCII characters", "Use visible ASCII only."
        )
    return text


def _read_ip(content: bytes) -> str:
    if len(content) not in (4, 16):
        raise _invalid(f"an iPAddress has {len(content)} octets", "It has 4 (IPv4) or 16 (IPv6).")
    return str(ipaddress.ip_address(content))


def _read_directory_name(content: bytes) -> str:
    return Name.from_der(content).rfc4514


def _read_other_name(content: bytes) -> str:
    reader = der.Reader(content)
    oid = der.decode_oid(reader.read(der.OBJECT_IDENTIFIER).content)
    value = der.read_tlv(reader.read(0xA0).content)
    reader.finish()
    if value.tag != der.UTF8_STRING:
        return f"{oid};DER:{value.der.hex()}"
    try:
        text = value.content.decode("utf-8")
    except UnicodeDecodeError:
        raise _invalid("an otherName has a UTF8String that is not UTF-8") from None
    if not text.isprintable():
        raise _invalid("an otherName has control characters in its UTF8String")
    return f"{_UPN_LABEL}={text}" if oid == USER_PRINCIPAL_NAME else f"{oid};UTF8:{text}"


def _read_hexadecimal(content: bytes) -> str:
    return f"#{content.hex()}"


_READERS: dict[str, Callable[[bytes], str]] = {
    "otherName": _read_other_name,
    "rfc822Name": _read_ia5,
    "dNSName": _read_ia5,
    "x400Address": _read_hexadecimal,
    "directoryName": _read_directory_name,
    "ediPartyName": _read_hexadecimal,
    "uniformResourceIdentifier": _read_ia5,
    "iPAddress": _read_ip,
    "registeredID": der.decode_oid,
}


# ---- building --------------------------------------------------------------------------------------------------------


def _build(kind: str, value: str | bytes) -> bytes:
    name = canonical_type(kind)
    if isinstance(value, bytes):
        expected = _TAGS["otherName" if name == _UPN_LABEL else name]
        found = der.read_tlv(value).tag
        if found != expected:
            raise _invalid(f"the DER of a {name} has tag 0x{found:02X}", f"It must have tag 0x{expected:02X}.")
        return value
    writer = _WRITERS.get(name)
    if writer is None:
        raise _invalid(f"a {name} cannot be written as text", "Give its DER.")
    return writer(value.strip())


def _write_ip(value: str) -> bytes:
    try:
        packed = ipaddress.ip_address(value.strip("[]")).packed
    except ValueError:
        raise _invalid(f'"{value[:64]}" is not an IP address', "Write 192.0.2.1 or 2001:db8::1.") from None
    return der.tlv(_TAGS["iPAddress"], packed)


def _write_upn(value: str) -> bytes:
    if not re.fullmatch(r"[^@\s]+@[^@\s]+", value) or not value.isprintable() or len(value) > 1024:
        raise _invalid(f'"{value[:64]}" is not a user principal name', "Write alice@example.com.")
    return _other_name(USER_PRINCIPAL_NAME, der.utf8_string(value))


def _write_other_name(value: str) -> bytes:
    label, equals, upn = value.partition("=")
    if equals and label.strip().lower() in _UPN_ALIASES:
        return _write_upn(upn.strip())
    match = re.fullmatch(r"([0-9.]+);(UTF8|DER):(.+)", value, re.DOTALL)
    if match is None:
        return _write_upn(value)
    if match[2] == "UTF8":
        return _other_name(match[1], der.utf8_string(match[3]))
    try:
        return _other_name(match[1], der.read_tlv(bytes.fromhex(match[3])).der)
    except ValueError:
        raise _invalid("the DER of an otherName is not hexadecimal") from None


def _other_name(oid: str, value: bytes) -> bytes:
    return der.explicit(0, der.oid(oid) + der.explicit(0, value))


def _ia5_writer(kind: str, check: Callable[[str], str]) -> Callable[[str], bytes]:
    return lambda value: der.tlv(_TAGS[kind], check(value).encode("ascii"))


_WRITERS: dict[str, Callable[[str], bytes]] = {
    "rfc822Name": _ia5_writer("rfc822Name", check_email_address),
    "dNSName": _ia5_writer("dNSName", check_dns_name),
    "uniformResourceIdentifier": _ia5_writer("uniformResourceIdentifier", check_uri),
    "iPAddress": _write_ip,
    "directoryName": lambda value: der.explicit(4, Name.parse(value).der),
    "registeredID": lambda value: b"\x88" + der.oid(value)[1:],
    "otherName": _write_other_name,
    _UPN_LABEL: _write_upn,
}


def _invalid(what: str, remedy: str | None = None) -> InvalidInput:
    return InvalidInput(f"A general name is not valid: {what.rstrip('.')}.", code="invalid-general-name", remedy=remedy)
