"""Lists of all serial numbers that a CA has issued: text, one hexadecimal number per line, of any length.

Leading zeros, ``0x``, colons, upper and lower case, CRLF, blank lines, white space and comments (``#``) are tolerated;
whatever else is on a line makes the whole list unusable, because half a list would call certificates unknown.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from typing import BinaryIO

from intaglio.core.errors import InvalidInput

#: Largest list that is read, in octets: some twenty million serial numbers of 20 octets.
MAX_OCTETS = 1 << 30
_LONGEST_LINE = 1_000
_LONGEST_SERIAL = 40  # octets
_BLOCK = 1 << 20


def serials(file: BinaryIO) -> Iterator[bytes]:
    """The serial numbers in their order, as minimal big-endian octets.

    Raises InvalidInput (``serial-list-invalid``) with the number of the line.
    """
    file.seek(0)
    number, begun = 0, b""
    while block := file.read(_BLOCK):
        lines = (begun + block).split(b"\n")
        begun = lines.pop()
        if len(begun) > _LONGEST_LINE:
            raise _invalid(number + len(lines) + 1, "the line is too long")
        yield from _of_lines(lines, number)
        number += len(lines)
    if begun:
        yield from _of_lines([begun], number)


def _of_lines(lines: list[bytes], before: int) -> Iterator[bytes]:
    """The serial numbers of some lines, of which ``before`` lines came earlier."""
    unhex = binascii.unhexlify
    for number, line in enumerate(lines, before + 1):
        # The usual line: an even number of digits, perhaps with leading zeros.
        try:
            octets = unhex(line.strip())
        except binascii.Error:
            octets = _unusual(line, number)
        if octets:  # nothing on a blank line
            if octets[0] == 0:
                octets = octets.lstrip(b"\0") or b"\0"
            if len(octets) > _LONGEST_SERIAL:
                raise _invalid(number, "the number is too long")
            yield octets


def _unusual(line: bytes, number: int) -> bytes:
    """Octets of a line that is not just an even number of hexadecimal digits; none of a comment."""
    if len(line) > _LONGEST_LINE:
        raise _invalid(number, "the line is too long")
    digits = line.partition(b"#")[0].strip().replace(b":", b"")
    if number == 1:
        digits = digits.removeprefix(b"\xef\xbb\xbf")  # a byte order mark, as some editors write it
    if digits[:2] in (b"0x", b"0X"):
        digits = digits[2:]
    if not digits:
        if line.strip() and b"#" not in line:
            raise _invalid(number, "it is not a hexadecimal number")
        return b""
    try:
        return binascii.unhexlify(digits if len(digits) % 2 == 0 else b"0" + digits)
    except binascii.Error:
        raise _invalid(number, "it is not a hexadecimal number") from None


def _invalid(number: int, why: str) -> InvalidInput:
    return InvalidInput(
        f"Line {number} of the list of serial numbers cannot be used: {why}.",
        code="serial-list-invalid",
        remedy="Write one hexadecimal serial number per line.",
    )
