"""Distinguished Encoding Rules: a small writer, and a strict, bounded reader.

The writer functions return finished TLVs (``bytes``) that are concatenated by the caller; the reader refuses whatever
is not DER. Source: ITU-T X.690 sections 8 to 11.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from intaglio.core.errors import InvalidInput

BOOLEAN = 0x01
INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
NULL = 0x05
OBJECT_IDENTIFIER = 0x06
ENUMERATED = 0x0A
UTF8_STRING = 0x0C
NUMERIC_STRING = 0x12
PRINTABLE_STRING = 0x13
TELETEX_STRING = 0x14
IA5_STRING = 0x16
UTC_TIME = 0x17
GENERALIZED_TIME = 0x18
VISIBLE_STRING = 0x1A
UNIVERSAL_STRING = 0x1C
BMP_STRING = 0x1E
SEQUENCE = 0x30
SET = 0x31

#: Deepest nesting a :class:`Reader` enters unless told otherwise.
MAX_DEPTH = 16
#: Most elements :func:`children` returns unless told otherwise.
MAX_CHILDREN = 10_000
_LONGEST_OID = 128
_MAX_INTEGER_OCTETS = 1024


class Element(NamedTuple):
    """One TLV: its identifier octet, its content octets, and the whole of it."""

    tag: int
    content: bytes
    der: bytes


# ---- writing ---------------------------------------------------------------------------------------------------------


def tlv(tag: int, content: bytes) -> bytes:
    """The TLV of identifier octet ``tag`` (low-tag-number form) around finished ``content``."""
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


def sequence(*parts: bytes) -> bytes:
    """SEQUENCE of finished TLVs in the given order."""
    return tlv(SEQUENCE, b"".join(parts))


def set_of(*parts: bytes) -> bytes:
    """SET OF finished TLVs, sorted as DER demands (X.690 section 11.6)."""
    return tlv(SET, b"".join(sorted(parts)))


def integer(value: int | bytes) -> bytes:
    """INTEGER from an ``int`` of either sign, or from unsigned big-endian octets such as a serial number."""
    if isinstance(value, bytes):
        value = int.from_bytes(value, "big")
    length = (value if value >= 0 else ~value).bit_length() // 8 + 1
    return tlv(INTEGER, value.to_bytes(length, "big", signed=True))


def enumerated(value: int) -> bytes:
    """ENUMERATED with a non-negative value."""
    return tlv(ENUMERATED, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def boolean(value: bool) -> bytes:
    """BOOLEAN. A value equal to its DEFAULT must be left out by the caller (X.690 section 11.5)."""
    return b"\x01\x01\xff" if value else b"\x01\x01\x00"


def null() -> bytes:
    """NULL."""
    return b"\x05\x00"


def octet_string(content: bytes) -> bytes:
    """OCTET STRING."""
    return tlv(OCTET_STRING, content)


def bit_string(content: bytes, unused: int = 0) -> bytes:
    """BIT STRING of whole octets; the last ``unused`` bits (0-7) do not count and must be zero."""
    return tlv(BIT_STRING, bytes((unused,)) + content)


def named_bits(positions: frozenset[int]) -> bytes:
    """BIT STRING with named bits set, trailing zero bits removed (X.690 section 11.2.2). Bit 0 is the leftmost."""
    if not positions:
        return bit_string(b"")
    highest = max(positions)
    octets = bytearray(highest // 8 + 1)
    for position in positions:
        octets[position // 8] |= 0x80 >> position % 8
    return bit_string(bytes(octets), 7 - highest % 8)


def utf8_string(text: str) -> bytes:
    """UTF8String."""
    return tlv(UTF8_STRING, text.encode())


def printable_string(text: str) -> bytes:
    """PrintableString; the caller has checked the alphabet."""
    return tlv(PRINTABLE_STRING, text.encode("ascii"))


def ia5_string(text: str) -> bytes:
    """IA5String; the caller has checked that the text is ASCII."""
    return tlv(IA5_STRING, text.encode("ascii"))


def explicit(number: int, content: bytes) -> bytes:
    """``[number] EXPLICIT`` (also: a constructed ``[number] IMPLICIT``) around finished TLVs."""
    return tlv(0xA0 | number, content)


def implicit(number: int, content: bytes) -> bytes:
    """A primitive ``[number] IMPLICIT`` around content octets."""
    return tlv(0x80 | number, content)


def utc_or_generalized_time(moment: datetime) -> bytes:
    """Time of a certificate or CRL: UTCTime from 1950 through 2049, GeneralizedTime otherwise, whole seconds.

    Source: RFC 5280 section 4.1.2.5.
    """
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    if not 1950 <= moment.year < 2050:
        return generalized_time(moment)
    return b"\x17\x0d%02d%02d%02d%02d%02d%02dZ" % (
        moment.year % 100, moment.month, moment.day, moment.hour, moment.minute, moment.second,
    )  # fmt: skip


def generalized_time(moment: datetime) -> bytes:
    """GeneralizedTime in UTC with whole seconds (fractions are cut off)."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return b"\x18\x0f%04d%02d%02d%02d%02d%02dZ" % (
        moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second,
    )  # fmt: skip


@lru_cache(maxsize=1024)
def oid(dotted: str) -> bytes:
    """OBJECT IDENTIFIER from dotted decimal. Raises InvalidInput (``invalid-oid``) when it is not one."""
    return tlv(OBJECT_IDENTIFIER, _oid_content(dotted))


def _oid_content(dotted: str) -> bytes:
    parts = dotted.split(".")
    plain = all(p.isascii() and p.isdigit() and len(p) <= 40 and (p == "0" or p[0] != "0") for p in parts)
    if not plain or not 2 <= len(parts) <= 64:
        raise _bad_oid(dotted)
    first, second, *rest = map(int, parts)
    if first > 2 or (first < 2 and second > 39):
        raise _bad_oid(dotted)
    content = b"".join(map(_base128, [first * 40 + second, *rest]))
    if len(content) > _LONGEST_OID:
        raise _bad_oid(dotted)
    return content


def _base128(value: int) -> bytes:
    octets = [value & 0x7F]
    while value := value >> 7:
        octets.append(0x80 | value & 0x7F)
    return bytes(reversed(octets))


def _bad_oid(dotted: str) -> InvalidInput:
    return InvalidInput(
        f'"{dotted[:80]}" is not an object identifier.',
        code="invalid-oid",
        remedy="Write it in dotted decimal, such as 1.3.6.1.5.5.7.3.1.",
    )


# ---- reading ---------------------------------------------------------------------------------------------------------


def header(data: bytes, position: int, end: int) -> tuple[int, int, int]:
    """Identifier octet, first and one-past-last content offset of the TLV at ``position`` within ``data[:end]``.

    Raises InvalidInput for high tag numbers, indefinite or padded lengths, and content that runs past ``end``.
    """
    try:
        tag = data[position]
        length = data[position + 1]
    except IndexError:
        raise not_der("the data ends inside a header") from None
    start = position + 2
    if length >= 0x80:
        count = length & 0x7F
        octets = data[start : start + count]
        start += count
        length = int.from_bytes(octets, "big")
        if not 0 < count <= 4 or len(octets) != count or octets[0] == 0 or length < 0x80:
            raise not_der("a length is not in its shortest definite form")
    stop = start + length
    if stop > end:
        raise not_der("an element runs past the end of its container")
    if tag & 0x1F == 0x1F:
        raise not_der("a tag number is above 30")
    return tag, start, stop


def read_tlv(data: bytes, tag: int | None = None) -> Element:
    """The one TLV that ``data`` consists of, of identifier ``tag`` if given. Raises InvalidInput otherwise."""
    found, start, stop = header(data, 0, len(data))
    if stop != len(data):
        raise not_der("there is trailing data")
    if tag is not None and found != tag:
        raise unexpected_tag(tag, found)
    return Element(found, data[start:stop], data)


def children(content: bytes, limit: int = MAX_CHILDREN) -> list[Element]:
    """All TLVs in ``content``, at most ``limit``. Raises InvalidInput for anything else."""
    elements: list[Element] = []
    position, end = 0, len(content)
    while position < end:
        tag, start, stop = header(content, position, end)
        elements.append(Element(tag, content[start:stop], content[position:stop]))
        if len(elements) > limit:
            raise not_der(f"there are more than {limit} elements in one container")
        position = stop
    return elements


class Reader:
    """Reads the TLVs in ``data`` one after the other and remembers how deep it has gone.

    ``read`` and ``optional`` take elements, ``enter`` takes a constructed element and returns a reader of its content,
    ``finish`` makes sure that nothing is left. Everything unexpected raises InvalidInput (``invalid-der``).
    """

    __slots__ = ("_data", "_depth", "_end", "_position")

    def __init__(self, data: bytes, max_depth: int = MAX_DEPTH) -> None:
        if max_depth < 0:
            raise not_der("the nesting is too deep")
        self._data = data
        self._depth = max_depth
        self._position = 0
        self._end = len(data)

    @property
    def at_end(self) -> bool:
        """Whether everything was read."""
        return self._position == self._end

    def peek(self) -> int | None:
        """Identifier octet of the next element, None at the end."""
        return None if self.at_end else self._data[self._position]

    def read(self, tag: int | None = None) -> Element:
        """The next element, of identifier ``tag`` if given."""
        position = self._position
        found, start, stop = header(self._data, position, self._end)
        if tag is not None and found != tag:
            raise unexpected_tag(tag, found)
        self._position = stop
        return Element(found, self._data[start:stop], self._data[position:stop])

    def optional(self, tag: int) -> Element | None:
        """The next element if it has identifier ``tag``."""
        return self.read(tag) if self.peek() == tag else None

    def enter(self, tag: int = SEQUENCE) -> Reader:
        """A reader of the content of the next element."""
        return Reader(self.read(tag).content, self._depth - 1)

    def rest(self, limit: int = MAX_CHILDREN) -> Iterator[Element]:
        """The remaining elements, at most ``limit``."""
        for _ in range(limit):
            if self.at_end:
                return
            yield self.read()
        if not self.at_end:
            raise not_der(f"there are more than {limit} elements in one container")

    def finish(self) -> None:
        """Raise InvalidInput unless everything was read."""
        if not self.at_end:
            raise not_der("there is trailing data")


@lru_cache(maxsize=1024)
def decode_oid(content: bytes) -> str:
    """Dotted decimal of the content octets of an OBJECT IDENTIFIER. Raises InvalidInput when they are not one."""
    if not 0 < len(content) <= _LONGEST_OID or content[-1] & 0x80:
        raise not_der("an object identifier is empty, too long or cut off")
    arcs: list[int] = []
    value, fresh = 0, True
    for octet in content:
        if fresh and octet == 0x80:
            raise not_der("an object identifier is padded")
        value = value << 7 | octet & 0x7F
        if fresh := octet < 0x80:
            arcs.append(value)
            value = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))


def decode_integer(content: bytes) -> int:
    """Value of the content octets of an INTEGER. Raises InvalidInput unless they are minimal, and at most 1,024.

    No integer that is read here is any longer, and one that is could not even be shown: Python turns no integer of more
    than 4,300 digits into text.
    """
    if len(content) > _MAX_INTEGER_OCTETS:
        raise not_der(f"an integer has more than {_MAX_INTEGER_OCTETS} octets")
    if not content or (len(content) > 1 and content[0] in (0x00, 0xFF) and (content[0] ^ content[1]) < 0x80):
        raise not_der("an integer is empty or padded")
    return int.from_bytes(content, "big", signed=True)


def decode_boolean(content: bytes) -> bool:
    """Value of the content octet of a BOOLEAN. Raises InvalidInput unless it is 0x00 or 0xFF."""
    if content not in (b"\x00", b"\xff"):
        raise not_der("a boolean is neither 0x00 nor 0xFF")
    return content == b"\xff"


def decode_bit_string(content: bytes) -> tuple[bytes, int]:
    """Octets and number of unused bits of a BIT STRING. Raises InvalidInput when unused bits are set."""
    if not content or content[0] > 7 or (content[0] and (len(content) == 1 or content[-1] & (1 << content[0]) - 1)):
        raise not_der("a bit string has a wrong number of unused bits")
    return content[1:], content[0]


def decode_time(element: Element) -> datetime:
    """The moment of a UTCTime or GeneralizedTime in the forms RFC 5280 section 4.1.2.5 allows, aware, in UTC."""
    text = element.content.decode("latin-1")
    digits = text[:-1]
    long = element.tag == GENERALIZED_TIME
    shape = text[-1:] == "Z" and digits.isascii() and digits.isdigit() and len(digits) == (14 if long else 12)
    if element.tag not in (UTC_TIME, GENERALIZED_TIME) or not shape:
        raise not_der("a time is not YYMMDDHHMMSSZ or YYYYMMDDHHMMSSZ")
    if not long:
        digits = ("20" if digits < "50" else "19") + digits
    try:
        year, month, day = int(digits[:4]), int(digits[4:6]), int(digits[6:8])
        return datetime(year, month, day, int(digits[8:10]), int(digits[10:12]), int(digits[12:]), tzinfo=UTC)
    except ValueError:
        raise not_der("a time does not exist") from None


def not_der(what: str) -> InvalidInput:
    """The refusal of bytes that are not DER."""
    return InvalidInput(f"The data is not valid DER: {what}.", code="invalid-der")


def unexpected_tag(expected: int, found: int) -> InvalidInput:
    """The refusal of an element of the wrong type."""
    return not_der(f"tag 0x{expected:02X} was expected, 0x{found:02X} found")
