"""What is validated, and how it fails."""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass, field
from typing import Literal

from intaglio.core.errors import Refused

Method = Literal["http-01", "dns-01", "tls-alpn-01"]
Problem = Literal["connection", "dns", "tls", "unauthorized", "incorrectResponse", "caa", "malformed"]


@dataclass(frozen=True)
class Target:
    """A name and the challenge that is to prove control over it.

    ``value`` is a DNS name without ``*.`` or the text of an IP address; ``key_authorization`` is the token, a dot and
    the thumbprint of the account key (RFC 8555 section 8.1).
    """

    kind: Literal["dns", "ip"]
    value: str
    wildcard: bool
    token: str
    key_authorization: str = field(repr=False)
    account_uri: str
    method: str

    @property
    def digest(self) -> bytes:
        """SHA-256 of the key authorization."""
        return hashlib.sha256(self.key_authorization.encode("ascii")).digest()

    @property
    def reverse_name(self) -> str:
        """The name of the address in ``in-addr.arpa`` or ``ip6.arpa``."""
        return ipaddress.ip_address(self.value).reverse_pointer


class ValidationFailed(Refused):
    """Control over a name was not proven. ``problem`` is the ACME error type (RFC 8555 section 6.7)."""

    default_code = "validation-failed"

    def __init__(self, problem: Problem, detail: str, *, remedy: str | None = None) -> None:
        super().__init__(detail, remedy=remedy)
        self.problem: Problem = problem
