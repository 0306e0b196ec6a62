"""PEM text to DER and back. Source: RFC 7468."""

from __future__ import annotations

import base64
import binascii
import re

from intaglio.core.errors import InvalidInput

#: A block ends at the next five dashes, whatever they are: to look further would take time squared for many beginnings.
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----((?:[^-]++|-(?!----))*+)-----END \1-----")
_LINE = 64


def encode(label: str, data: bytes) -> str:
    """``data`` as a PEM block with 64 characters per line and a final newline."""
    text = base64.b64encode(data).decode("ascii")
    lines = [text[i : i + _LINE] for i in range(0, len(text), _LINE)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])


def blocks(data: bytes, labels: tuple[str, ...], *, limit: int) -> list[tuple[str, bytes]]:
    """(label, DER) of every PEM block in ``data`` whose label is one of ``labels``, at most ``limit``.

    Text around the blocks is ignored. Raises InvalidInput (``invalid-pem``).
    """
    found: list[tuple[str, bytes]] = []
    for match in _BLOCK.finditer(data):
        label = match[1].decode("ascii")
        if label not in labels:
            continue
        if len(found) == limit:
            raise InvalidInput(f"There are more than {limit} PEM blocks.", code="invalid-pem")
        found.append((label, decode_base64(match[2])))
    return found


def decode_base64(text: bytes) -> bytes:
    """Octets of base64 ``text``, white space ignored. Raises InvalidInput (``invalid-pem``)."""
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except binascii.Error:
        raise InvalidInput("The data is not valid base64.", code="invalid-pem") from None
