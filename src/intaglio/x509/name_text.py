"""Reads the text forms of distinguished names into (type, value) pairs in encoding order. See ``names.Name.parse``."""

from __future__ import annotations

import re

from intaglio.core.errors import InvalidInput

Pair = tuple[str, str | bytes]

_HEX_PAIR = re.compile(r"[0-9A-Fa-f]{2}")
_HEX_STRING = re.compile(r"#(?:[0-9A-Fa-f]{2})+")
_TYPE = re.compile(r"\s*([A-Za-z][A-Za-z0-9.-]*|[0-9]+(?:\.[0-9]+)*)\s*=[ ]*")
#: In the slash form a separator counts only in front of ``type=``, so that ``/CN=host/admin`` keeps its slash.
_SLASH_NEXT = re.compile(r"[A-Za-z0-9.-]+\s*=")


def parse_name_text(text: str) -> list[list[Pair]]:
    """RDNs in encoding order; a ``#`` value as the bytes it stands for. Raises InvalidInput (``invalid-name``) with the
    position of the fault."""
    # Trailing spaces stay: the last one may be escaped.
    text = text.lstrip().rstrip("\t\r\n")
    if not text:
        return []
    control = next((i for i, c in enumerate(text) if ord(c) < 0x20 or ord(c) == 0x7F), None)
    if control is not None:
        raise _at(control, "a control character", "Escape it as a backslash and two hexadecimal digits.")
    if text.startswith("/"):
        return _Scanner(text, "/").rdns(1)
    return list(reversed(_Scanner(text, ",;").rdns(0)))


class _Scanner:
    """Walks over the text once. ``separators`` are the characters that end an RDN."""

    def __init__(self, text: str, separators: str) -> None:
        self.text = text
        self.separators = separators
        self.slash = separators == "/"

    def rdns(self, position: int) -> list[list[Pair]]:
        """The RDNs in the order of the text."""
        found: list[list[Pair]] = [[]]
        while True:
            pair, position = self._pair(position)
            found[-1].append(pair)
            if position == len(self.text):
                return found
            if self.text[position] != "+":
                found.append([])
            position += 1

    def _pair(self, position: int) -> tuple[Pair, int]:
        match = _TYPE.match(self.text, position)
        if match is None:
            raise _at(position, "an attribute type and = were expected", "Write it like CN=name,O=organization,C=CA.")
        start = match.end()
        first = self.text[start : start + 1]
        if first == '"' and not self.slash:
            value, position = self._quoted(start + 1)
        else:
            value, position = self._plain(start)
        return (match[1], self._octets(value, start) if first == "#" else value), position

    def _octets(self, value: str, start: int) -> bytes:
        if not _HEX_STRING.fullmatch(value):
            raise _at(start, "a # that is not followed by hexadecimal digits", "Write \\# for a literal number sign.")
        return bytes.fromhex(value[1:])

    def _plain(self, position: int) -> tuple[str, int]:
        octets = bytearray()
        significant = 0  # trailing spaces count only when escaped
        while position < len(self.text) and not self._ends_value(position):
            character = self.text[position]
            if character == "\\":
                escaped, position = self._escape(position)
                octets += escaped
                significant = len(octets)
                continue
            if character == '"' and not self.slash:
                raise _at(position, "an unescaped quotation mark", 'Write \\" instead.')
            octets += character.encode("utf-8", "surrogatepass")
            position += 1
            if character != " ":
                significant = len(octets)
        return self._decode(bytes(octets[:significant]), position), position

    def _quoted(self, position: int) -> tuple[str, int]:
        octets = bytearray()
        while position < len(self.text) and self.text[position] != '"':
            if self.text[position] == "\\":
                escaped, position = self._escape(position)
                octets += escaped
            else:
                octets += self.text[position].encode("utf-8", "surrogatepass")
                position += 1
        if position == len(self.text):
            raise _at(position, "a quotation mark is not closed", 'Close it with ".')
        position += 1
        while self.text[position : position + 1] == " ":
            position += 1
        if position < len(self.text) and not self._ends_value(position):
            raise _at(position, "text after a closed quotation mark", "Separate attributes with a comma.")
        return self._decode(bytes(octets), position), position

    def _ends_value(self, position: int) -> bool:
        character = self.text[position]
        if character != "+" and character not in self.separators:
            return False
        return not self.slash or _SLASH_NEXT.match(self.text, position + 1) is not None

    def _escape(self, position: int) -> tuple[bytes, int]:
        pair = self.text[position + 1 : position + 3]
        if _HEX_PAIR.fullmatch(pair):
            return bytes.fromhex(pair), position + 3
        if not pair:
            raise _at(position, "a backslash at the end", "Write \\\\ for a backslash.")
        return pair[0].encode("utf-8", "surrogatepass"), position + 2

    def _decode(self, octets: bytes, position: int) -> str:
        try:
            return octets.decode("utf-8")
        except UnicodeDecodeError:
            raise _at(position, "escaped octets that are not UTF-8", "Escape the UTF-8 octets.") from None


def _at(position: int, what: str, remedy: str) -> InvalidInput:
    return InvalidInput(
        f"The distinguished name is not valid at character {position + 1}: {what}.", code="invalid-name", remedy=remedy
    )
