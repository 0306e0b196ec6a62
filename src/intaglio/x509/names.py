"""Distinguished names: bytes that stay exactly as they came, and the text people write and read.

Text is RFC 4514: the last RDN comes first. Also read: RFC 2253 with quotes and spaces, ``;`` as separator, ``OID.``
prefixes, and the slash form of OpenSSL (``/C=CA/O=Example``), which is in encoding order.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, cast

from intaglio.asn1 import der
from intaglio.core.errors import InvalidInput
from intaglio.x509.attribute_types import BY_ALIAS, BY_OID, COMMON_NAME, AttributeType

MAX_NAME_OCTETS = 16_384
MAX_NAME_TEXT = 16_384
MAX_RDNS = 64
MAX_ATTRIBUTES_PER_RDN = 16
MAX_VALUE_OCTETS = 4_096

#: Alias or dotted OID, and the text of the value or (``bytes``) the DER of it.
AttributeValue = tuple[str, str | bytes]


class Attribute(NamedTuple):
    """One attribute: dotted type, value as text (``#`` and hexadecimal when it is no string), value as TLV."""

    oid: str
    value: str
    raw: bytes

    @property
    def is_text(self) -> bool:
        """Whether the value is a character string."""
        return self.raw[0] in _DECODERS


@dataclass(frozen=True)
class Name:
    """A distinguished name; ``der`` is its RDNSequence. Make one with ``from_der``, ``parse`` or ``build``.

    Equality is equality of the encoding; compare ``key`` to match names the way relying parties do.
    """

    der: bytes

    @classmethod
    def from_der(cls, data: bytes) -> Name:
        """The name encoded in ``data``, checked and kept byte for byte. Raises InvalidInput (``invalid-name``)."""
        name = cls(data)
        try:
            _ = name.attributes
        except InvalidInput as error:
            raise error if error.code == "invalid-name" else _invalid(error.detail) from None
        return name

    @classmethod
    def parse(cls, text: str) -> Name:
        """The name written in ``text`` (see the module). Raises InvalidInput (``invalid-name``) naming the place."""
        from intaglio.x509.name_text import parse_name_text

        if len(text) > MAX_NAME_TEXT:
            raise _invalid(f"it is longer than {MAX_NAME_TEXT} characters")
        return cls.build(parse_name_text(text))

    @classmethod
    def build(cls, rdns: Sequence[AttributeValue | Sequence[AttributeValue]]) -> Name:
        """The name of ``rdns`` in encoding order; each is one (alias or dotted OID, value) or a list of several.

        Texts get the string type their attribute type demands; ``bytes`` are the finished TLV of a value. Raises
        InvalidInput (``invalid-name``) for unknown types, values outside the alphabet or the upper bound of their
        type, and duplicates within one RDN.
        """
        if len(rdns) > MAX_RDNS:
            raise _invalid(f"it has more than {MAX_RDNS} RDNs")
        return cls.from_der(der.sequence(*map(_build_rdn, rdns)))

    @cached_property
    def attributes(self) -> tuple[tuple[Attribute, ...], ...]:
        """The RDNs in encoding order, each a tuple of its attributes."""
        if len(self.der) > MAX_NAME_OCTETS:
            raise _invalid(f"it is longer than {MAX_NAME_OCTETS} octets")
        return _decode(self.der)

    @property
    def is_empty(self) -> bool:
        """Whether there is no RDN at all."""
        return self.der == b"\x30\x00"

    @property
    def common_names(self) -> tuple[str, ...]:
        """The values of all CN attributes in encoding order."""
        return self.values(COMMON_NAME)

    def values(self, oid: str) -> tuple[str, ...]:
        """The values of all attributes of the dotted type ``oid`` in encoding order."""
        return tuple(attribute.value for rdn in self.attributes for attribute in rdn if attribute.oid == oid)

    @cached_property
    def rfc4514(self) -> str:
        """The name as text, RFC 4514 section 2; unknown types are dotted with ``#`` values, non-printables escaped."""
        return ",".join("+".join(map(_print_attribute, rdn)) for rdn in reversed(self.attributes))

    @cached_property
    def key(self) -> bytes:
        """32 octets that are equal for names that match: insensitive to case, insignificant space and string type,
        sensitive to order. Source: RFC 5280 section 7.1 with the string preparation of RFC 4518 section 2."""
        digest = hashlib.sha256()
        for rdn in self.attributes:
            digest.update(b"R")
            for oid, value in sorted((a.oid, _prepared(a)) for a in rdn):
                digest.update(b"%s=%d:" % (oid.encode(), len(value)))
                digest.update(value)
        return digest.digest()

    def __str__(self) -> str:
        return self.rfc4514


#: The name without any RDN.
EMPTY_NAME = Name(b"\x30\x00")


# ---- reading ---------------------------------------------------------------------------------------------------------


def _decode(data: bytes) -> tuple[tuple[Attribute, ...], ...]:
    tag, position, end = der.header(data, 0, len(data))
    if tag != der.SEQUENCE or end != len(data):
        raise der.not_der("a name is a SEQUENCE")
    rdns: list[tuple[Attribute, ...]] = []
    while position < end:
        tag, start, position = der.header(data, position, end)
        if tag != der.SET or start == position:
            raise der.not_der("an RDN is a SET of at least one attribute")
        rdns.append(_decode_rdn(data, start, position))
        if len(rdns) > MAX_RDNS:
            raise _invalid(f"it has more than {MAX_RDNS} RDNs")
    return tuple(rdns)


def _decode_rdn(data: bytes, position: int, end: int) -> tuple[Attribute, ...]:
    attributes: list[Attribute] = []
    previous = b""
    while position < end:
        first = position
        tag, start, position = der.header(data, position, end)
        type_tag, type_start, type_end = der.header(data, start, position)
        if tag != der.SEQUENCE or type_tag != der.OBJECT_IDENTIFIER:
            raise der.not_der("an attribute is a SEQUENCE of type and value")
        value_tag, value_start, value_end = der.header(data, type_end, position)
        if value_end != position:
            raise der.not_der("an attribute has more than type and value")
        if value_end - value_start > MAX_VALUE_OCTETS:
            raise _invalid(f"a value is longer than {MAX_VALUE_OCTETS} octets")
        raw = data[type_end:value_end]
        oid = der.decode_oid(data[type_start:type_end])
        attributes.append(Attribute(oid, _decode_value(value_tag, data[value_start:value_end], raw), raw))
        if len(attributes) > 1:
            if len(attributes) > MAX_ATTRIBUTES_PER_RDN:
                raise _invalid(f"an RDN has more than {MAX_ATTRIBUTES_PER_RDN} attributes")
            if previous >= data[first:position]:
                raise der.not_der("the attributes of an RDN are not in DER order")
        previous = data[first:position]
    return tuple(attributes)


_DECODERS = {
    der.UTF8_STRING: "utf-8",
    der.PRINTABLE_STRING: "ascii",
    der.IA5_STRING: "ascii",
    der.NUMERIC_STRING: "ascii",
    der.VISIBLE_STRING: "ascii",
    der.TELETEX_STRING: "latin-1",  # what every implementation means by it
    der.BMP_STRING: "utf-16-be",
    der.UNIVERSAL_STRING: "utf-32-be",
}


def _decode_value(tag: int, content: bytes, raw: bytes) -> str:
    codec = _DECODERS.get(tag)
    if codec is None:
        return f"#{raw.hex()}"
    try:
        return content.decode(codec)
    except UnicodeDecodeError:
        raise _invalid(f"a value is not valid for its string type (tag 0x{tag:02X})") from None


# ---- building --------------------------------------------------------------------------------------------------------

#: The alphabet of PrintableString (X.680 section 41.4).
PRINTABLE_TEXT = re.compile(r"[A-Za-z0-9 '()+,./:=?-]*")


def _build_rdn(rdn: AttributeValue | Sequence[AttributeValue]) -> bytes:
    single = isinstance(rdn, tuple) and len(rdn) == 2 and isinstance(rdn[0], str)
    pairs = cast("Sequence[AttributeValue]", [rdn] if single else rdn)
    parts = [_build_attribute(alias, value) for alias, value in pairs]
    if not 0 < len(parts) <= MAX_ATTRIBUTES_PER_RDN or len(set(parts)) != len(parts):
        raise _invalid(f"an RDN has 1 to {MAX_ATTRIBUTES_PER_RDN} different attributes")
    return der.set_of(*parts)


def _build_attribute(alias: str, value: str | bytes) -> bytes:
    attribute_type = _attribute_type(alias)
    raw = _raw_value(alias, value) if isinstance(value, bytes) else _encode_value(attribute_type, value)
    return der.sequence(der.oid(attribute_type.oid), raw)


def _attribute_type(alias: str) -> AttributeType:
    found = BY_ALIAS.get(alias.strip().lower())
    if found is None:
        dotted = re.sub(r"(?i)^oid\.", "", alias.strip())
        if not re.fullmatch(r"[0-9]+(\.[0-9]+)+", dotted):
            raise _invalid(f'"{alias[:64]}" is not an attribute type', "Use a known alias such as CN or a dotted OID.")
        der.oid(dotted)
        found = BY_OID.get(dotted) or AttributeType(dotted, dotted)
    return found


def _raw_value(alias: str, value: bytes) -> bytes:
    try:
        der.read_tlv(value)
    except InvalidInput:
        raise _invalid(f"the # value of {alias[:64]} is not the hexadecimal of one DER value") from None
    return value


def _encode_value(attribute_type: AttributeType, value: str) -> bytes:
    name = attribute_type.name
    if not value:
        raise _invalid(f"{name} is empty")
    if attribute_type.is_country:
        if not re.fullmatch(r"[A-Za-z]{2}", value):
            raise _invalid(f'{name} is "{value[:32]}"', "A country is two letters, such as CA (ISO 3166).")
        value = value.upper()
    if len(value) > attribute_type.upper_bound:
        raise _invalid(f"{name} is longer than {attribute_type.upper_bound} characters")
    if attribute_type.string_tag == der.PRINTABLE_STRING and not PRINTABLE_TEXT.fullmatch(value):
        raise _invalid(f"{name} may contain only letters, digits, space and '()+,-./:=?")
    if attribute_type.string_tag == der.IA5_STRING and not value.isascii():
        raise _invalid(f"{name} must be ASCII", "Write domains as A-labels (xn--...).")
    try:
        return der.tlv(attribute_type.string_tag, value.encode())
    except UnicodeEncodeError:
        raise _invalid(f"{name} contains half of a surrogate pair") from None


# ---- printing and matching -------------------------------------------------------------------------------------------


def _print_attribute(attribute: Attribute) -> str:
    known = BY_OID.get(attribute.oid)
    if known is None or not attribute.is_text:
        return f"{known.name if known else attribute.oid}=#{attribute.raw.hex()}"
    return f"{known.name}={escape_value(attribute.value)}"


def escape_value(value: str) -> str:
    """``value`` escaped for RFC 4514 text (section 2.4), so that it can never end its attribute.

    Non-printable characters become hexadecimal pairs of their UTF-8 octets.
    """
    escaped = "".join(_escape_character(character) for character in value)
    if value[:1] in (" ", "#"):
        escaped = "\\" + escaped
    if len(value) > 1 and value[-1] == " ":
        escaped = escaped[:-1] + "\\ "
    return escaped


def _escape_character(character: str) -> str:
    if character in '"+,;<>\\':
        return "\\" + character
    if character.isprintable():
        return character
    return "".join(f"\\{octet:02X}" for octet in character.encode("utf-8", "surrogatepass"))


def _prepared(attribute: Attribute) -> bytes:
    if not attribute.is_text:
        return b"#" + attribute.raw
    value = attribute.value
    if not (value.isascii() and value.isprintable()):
        mapped = "".join(_map_character(character) for character in value)
        value = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", mapped).casefold())
    return b"=" + " ".join(value.lower().split()).encode("utf-8", "surrogatepass")


def _map_character(character: str) -> str:
    # RFC 4518 section 2.2: white space to SPACE, other control and format characters to nothing.
    if character.isspace():
        return " "
    return "" if unicodedata.category(character) in ("Cc", "Cf") else character


def _invalid(what: str, remedy: str | None = None) -> InvalidInput:
    return InvalidInput(f"The distinguished name is not valid: {what.rstrip('.')}.", code="invalid-name", remedy=remedy)
