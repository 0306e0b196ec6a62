"""Messages in BER become DER, so that everything behind reads one encoding only. Source: ITU-T X.690 sections 8 and 10.

Old clients (Cisco IOS, OpenSSL's streaming output, Bouncy Castle) write messages with indefinite lengths and strings
in pieces. What is changed is the framing only: lengths become definite and shortest, pieces are joined. The order of
sets stays, for signatures were made over it.
"""

from __future__ import annotations

from typing import Final

from intaglio.asn1 import der

_CONSTRUCTED: Final = 0x20
_PIECES_OF_OCTETS: Final = der.OCTET_STRING | _CONSTRUCTED
_END_OF_CONTENTS: Final = b"\x00\x00"
_MAX_DEPTH: Final = 24
_MAX_ELEMENTS: Final = 8_000


def to_der(data: bytes) -> bytes:
    """The one element that ``data`` consists of, with the framing of DER.

    The caller has bounded the size; depth (24) and number of elements (8,000) are bounded here, and the result is
    hardly ever longer than ``data``. Raises InvalidInput (``invalid-der``) for what is not BER, and for trailing data.
    """
    rewriter = _Rewriter(data)
    element, position = rewriter.element(0, len(data), _MAX_DEPTH)
    if position != len(data):
        raise der.not_der("there is trailing data")
    return element


class _Rewriter:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = _MAX_ELEMENTS

    def element(self, position: int, end: int, depth: int) -> tuple[bytes, int]:
        """The element at ``position`` in DER framing, and the offset behind it."""
        self._left -= 1
        if depth < 0 or self._left < 0:
            raise der.not_der("the nesting is too deep, or there are too many elements")
        tag, start, stop = self._header(position, end)
        if not tag & _CONSTRUCTED:
            if stop is None:
                raise der.not_der("a primitive element has no length")
            return der.tlv(tag, self._data[start:stop]), stop
        parts, behind = self._children(start, end if stop is None else stop, depth, open_ended=stop is None)
        if tag == _PIECES_OF_OCTETS:
            return der.octet_string(b"".join(map(_octets, parts))), behind
        return der.tlv(tag, b"".join(parts)), behind

    def _children(self, position: int, end: int, depth: int, *, open_ended: bool) -> tuple[list[bytes], int]:
        parts: list[bytes] = []
        while True:
            if open_ended and self._data[position : position + 2] == _END_OF_CONTENTS and position + 2 <= end:
                return parts, position + 2
            if position == end:
                if open_ended:
                    raise der.not_der("an element of indefinite length has no end")
                return parts, position
            part, position = self.element(position, end, depth - 1)
            parts.append(part)

    def _header(self, position: int, end: int) -> tuple[int, int, int | None]:
        """Identifier octet, start of the content, and its end, None for an indefinite length."""
        if position + 2 > end:
            raise der.not_der("the data ends inside a header")
        tag, length, start = self._data[position], self._data[position + 1], position + 2
        if tag & 0x1F == 0x1F or tag == 0:
            raise der.not_der("a tag number is above 30, or 0")
        if length == 0x80:
            return tag, start, None
        if length > 0x80:
            count = length & 0x7F
            if count > 8 or start + count > end:
                raise der.not_der("a length is too long")
            length = int.from_bytes(self._data[start : start + count], "big")
            start += count
        if start + length > end:
            raise der.not_der("an element runs past the end of its container")
        return tag, start, start + length


def _octets(part: bytes) -> bytes:
    return der.read_tlv(part, der.OCTET_STRING).content
