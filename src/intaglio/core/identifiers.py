"""Grammars of user-facing identifiers, row keys, and the one place that turns randomness into serial numbers."""

from __future__ import annotations

import os
import re
import secrets
import time
from dataclasses import dataclass
from uuid import UUID

from intaglio.core.errors import InvalidInput

#: Words that collide with routes and service names. The union is refused for users, organizations and CAs alike.
RESERVED_WORDS = frozenset(
    {
        *("acs", "ca", "cas", "crlagent", "crlresponder", "deploy", "idp", "main", "meteringca", "persistgc", "pkihub"),
        *("pkihubidp", "scheduler", "schema", "schemas", "schemes", "vaagent", "crt", "operator", "crl"),
    }
)


@dataclass(frozen=True)
class Grammar:
    """Length and alphabet of one kind of identifier."""

    kind: str
    shortest: int
    longest: int

    def check(self, value: str, *, target: str) -> str:
        """Return ``value`` unchanged, or raise InvalidInput naming ``target`` and the rule that was broken."""
        if not self.shortest <= len(value) <= self.longest:
            raise InvalidInput(
                f"{self.kind} must have {self.shortest} to {self.longest} characters, not {len(value)}.", target=target
            )
        if not re.fullmatch(r"[a-z0-9_-]+", value):
            raise InvalidInput(f"{self.kind} may contain only a-z, 0-9, '_' and '-'.", target=target)
        if value in RESERVED_WORDS:
            raise InvalidInput(
                f'"{value}" is a reserved word.', code="reserved-word", remedy="Choose another name.", target=target
            )
        return value


USER_NAME = Grammar("A user name", 3, 13)
ORGANIZATION_NAME = Grammar("An organization name", 3, 14)
CA_ID = Grammar("A CA id", 3, 18)

SERIAL_NUMBER_OCTETS = 20


def new_serial_number() -> bytes:
    """A fresh certificate serial number: 20 octets, positive, the first octet 0x01-0x7F, 158 random bits.

    The first octet is never zero so that every serial has the same length, and never above 0x7F so that the DER
    INTEGER has exactly 20 octets. Source: RFC 5280 section 4.1.2.2.
    """
    while True:
        serial = bytearray(secrets.token_bytes(SERIAL_NUMBER_OCTETS))
        serial[0] &= 0x7F
        if serial[0]:
            return bytes(serial)


def serial_from_hex(text: str) -> bytes:
    """Minimal big-endian octets of a hexadecimal serial number in any case, with or without leading zeros, ``0x`` or
    colons. Raises InvalidInput when it is not one."""
    digits = text.strip().replace(":", "").removeprefix("0x").removeprefix("0X")
    if not re.fullmatch(r"[0-9a-fA-F]{1,80}", digits):
        raise InvalidInput("A serial number is hexadecimal, at most 40 octets.", target="serialNumber")
    return serial_octets(int(digits, 16))


def serial_octets(number: int) -> bytes:
    """Minimal big-endian octets of a non-negative serial number (how serials are stored)."""
    return number.to_bytes(max(1, (number.bit_length() + 7) // 8), "big")


def serial_hex(serial: bytes) -> str:
    """Upper-case hexadecimal without leading zero octets: how serial numbers are shown."""
    return serial.hex().upper()


def new_id() -> UUID:
    """A UUIDv7 row key: 48 bits of milliseconds, then randomness. Source: RFC 9562 section 5.7."""
    value = int.from_bytes(os.urandom(16), "big")
    value &= (1 << 80) - 1
    value |= (time.time_ns() // 1_000_000 & (1 << 48) - 1) << 80
    value &= ~(0xF << 76) & ~(0x3 << 62)
    value |= (0x7 << 76) | (0x2 << 62)
    return UUID(int=value)


def new_secret(bits: int = 160) -> str:
    """A random one-time secret in lower-case hexadecimal (40 digits by default)."""
    return secrets.token_hex(bits // 8)
