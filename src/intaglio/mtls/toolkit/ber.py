"""BER to DER, for the PKCS #12 files of older writers, which use indefinite lengths and segmented octet strings.

Source: ITU-T X.690 sections 8.1.3 and 8.7.
"""

from __future__ import annotations

from intaglio.asn1 import der
from intaglio.core.errors import InvalidInput

_MOST_ELEMENTS = 20_000
_DEEPEST = 32
_INDEFINITE = 0x80
_CONSTRUCTED_OCTETS = 0x24
_PRIMITIVE_OCTETS = 0x04


def to_der(data: bytes) -> bytes:
    """The first element of ``data`` with definite, shortest lengths and octet strings in one piece.

    Only what is constructed is looked into, so octet strings inside keep their content. Raises InvalidInput
    (``invalid-der``) when the nesting, the number of elements or a length is out of bounds.
    """
    return _Rewriter(data).element(0, len(data), 0)[0]


class _Rewriter:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = _MOST_ELEMENTS

    def element(self, position: int, end: int, depth: int) -> tuple[bytes, int]:
        """The element at ``position`` in DER, and the offset behind it."""
        self._left -= 1
        if depth > _DEEPEST or self._left < 0:
            raise der.not_der("the nesting is too deep or there are too many elements")
        tag, start, stop = self._header(position, end)
        if stop is None:
            if not tag & 0x20:
                raise der.not_der("a primitive element has an indefinite length")
            parts, behind = self._until_end_of_contents(start, end, depth)
        elif tag & 0x20:
            parts, behind = self._until(start, stop, depth), stop
        else:
            return der.tlv(tag, self._data[start:stop]), stop
        if tag == _CONSTRUCTED_OCTETS:
            return der.octet_string(b"".join(_segment(part) for part in parts)), behind
        return der.tlv(tag, b"".join(parts)), behind

    def _until(self, position: int, stop: int, depth: int) -> list[bytes]:
        parts = []
        while position < stop:
            part, position = self.element(position, stop, depth + 1)
            parts.append(part)
        return parts

    def _until_end_of_contents(self, position: int, end: int, depth: int) -> tuple[list[bytes], int]:
        parts = []
        while self._data[position : position + 2] != b"\x00\x00":
            part, position = self.element(position, end, depth + 1)
            parts.append(part)
        return parts, position + 2

    def _header(self, position: int, end: int) -> tuple[int, int, int | None]:
        """Identifier octet, offset of the content, offset behind it (None: indefinite)."""
        head = self._data[position : position + 2]
        if len(head) < 2 or position + 2 > end:
            raise der.not_der("the data ends inside a header")
        tag, length, start = head[0], head[1], position + 2
        if tag & 0x1F == 0x1F:
            raise der.not_der("a tag number is above 30")
        if length == _INDEFINITE:
            return tag, start, None
        if length > _INDEFINITE:
            count = length & 0x7F
            if count > 8 or start + count > end:
                raise der.not_der("a length is out of bounds")
            length = int.from_bytes(self._data[start : start + count], "big")
            start += count
        if start + length > end:
            raise der.not_der("an element runs past the end of its container")
        return tag, start, start + length


def _segment(part: bytes) -> bytes:
    found = der.read_tlv(part)
    if found.tag != _PRIMITIVE_OCTETS:
        raise InvalidInput("The data is not valid BER: a segment is no octet string.", code="invalid-der")
    return found.content
