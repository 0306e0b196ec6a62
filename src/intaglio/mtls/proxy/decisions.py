"""What the gateway asks before it lets anybody through, and what it tells about everybody who tried.

The gateway itself decides nothing: a :class:`Source` does, be it the platform's access decisions in the same process,
a server asked over the network, or files. The gateway's duty is to ask for every handshake and every request, and to
do as told.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from intaglio.transport.contexts import ServerIdentity
from intaglio.transport.tls_stream import PeerCertificate


class Mode(StrEnum):
    """What a refusal does: nothing is asked, it is only recorded, or the client is turned away."""

    OFF = "off"
    PERMISSIVE = "permissive"
    ENFORCE = "enforce"


#: The reason codes that the gateway itself treats in a way of their own.
STATUS_UNAVAILABLE = "status_unavailable"
POLICY_DENIED = "policy_denied"

_BY_ERROR = {
    "DEPTH_ZERO_SELF_SIGNED_CERT": "self_signed",
    "CERT_HAS_EXPIRED": "expired",
    "CERT_NOT_YET_VALID": "not_yet_valid",
    "INVALID_PURPOSE": "bad_purpose",
    "EE_KEY_TOO_SMALL": "weak_key",
    "CA_KEY_TOO_SMALL": "weak_key",
    "CA_MD_TOO_WEAK": "weak_key",
    "EC_KEY_EXPLICIT_PARAMS": "weak_key",
    "CERT_SIGNATURE_FAILURE": "bad_signature",
    "UNABLE_TO_DECRYPT_CERT_SIGNATURE": "bad_signature",
    "SIGNATURE_ALGORITHM_MISMATCH": "bad_signature",
    "CERT_REVOKED": "revoked",
}


def reason_of(error: str | None) -> str:
    """The reason code of what OpenSSL found wrong with a certificate; ``unknown_ca`` when nobody trusted vouches."""
    return _BY_ERROR.get(error or "", "unknown_ca")


#: The forms in which a service may be told who is calling.
ALL_FORWARDED = frozenset({"client-cert", "xfcc", "identity"})


@dataclass(frozen=True)
class Caller:
    """Who is at the other end of a connection, as far as TLS knows."""

    source: str
    peer: PeerCertificate = field(default_factory=PeerCertificate)
    tls_version: str = ""
    cipher: str = ""
    server_name: str = ""


@dataclass(frozen=True)
class Asked:
    """What is wanted: ``method`` and ``path`` of a request, both empty for a connection as such."""

    method: str = ""
    path: str = ""
    host: str = ""


@dataclass(frozen=True)
class Verdict:
    """Whether the caller is entitled (``allowed``) and, after the mode was considered, may go on (``passes``).

    ``reason`` is a reason code, empty when allowed; ``detail`` is for the client, and ``status`` the HTTP status that
    tells it. ``identity`` names the caller and ``chain`` is what may be forwarded of him (DER, leaf first): both only
    of one whose certificate passed every check. ``attributes`` are what the identity is (kind, team ...); ``forward``
    says in which forms the service is told: client-cert (RFC 9440), xfcc (X-Forwarded-Client-Cert), identity
    (X-Intaglio-...). ``evidence`` is the source's own, for its record.
    """

    allowed: bool
    passes: bool
    reason: str = ""
    detail: str = ""
    status: int = 403
    identity: str = ""
    chain: Sequence[bytes] = field(default=(), repr=False)
    attributes: Sequence[tuple[str, str]] = ()
    forward: frozenset[str] = ALL_FORWARDED
    evidence: object = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Settings:
    """What the TLS side needs: who the gateway is, whom it trusts, and how strict it is."""

    identity: ServerIdentity
    trusted: Sequence[bytes]
    mode: Mode
    refuse_in_handshake: bool = True


#: Called when something changed that may end open connections, or the settings.
OnChange = Callable[[], Awaitable[None]]


class Source(Protocol):
    """Where decisions come from."""

    async def start(self, on_change: OnChange) -> None:
        """Begin; ``on_change`` is awaited after every change of status, policy or settings. Raises IntaglioError."""

    async def stop(self) -> None: ...
    async def settings(self) -> Settings:
        """The settings of now. Raises IntaglioError while there are none."""

    async def decide(self, caller: Caller, asked: Asked, *, again: bool = False) -> Verdict:
        """Decide on a request, or with an empty ``asked`` on a connection, whatever it may be used for later; ``again``
        when that was decided before. Never raises: when the source knows nothing the answer is
        ``status_unavailable``."""

    def record(self, caller: Caller, asked: Asked, verdict: Verdict, *, status: int | None) -> None:
        """Note a handshake or request that was accepted or refused; ``status`` is the HTTP status if there is one."""
