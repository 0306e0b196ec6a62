"""TLS contexts: which versions and suites are spoken, and with which certificate."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field

from intaglio.core.errors import InvalidInput

#: TLS 1.2: ephemeral key agreement and authenticated encryption only (RFC 9325 section 4.2). TLS 1.3 has no others.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:@SECLEVEL=2"


@dataclass(frozen=True)
class ServerIdentity:
    """Certificate chain (PEM, leaf first) and its private key (PEM, PKCS#8 unencrypted)."""

    chain: bytes
    key: bytes = field(repr=False)


def server_context(identity: ServerIdentity) -> ssl.SSLContext:
    """A context for ``identity`` that asks for no client certificates.

    One that does is a :class:`intaglio.transport.observing.ObservingContext`. Raises InvalidInput when chain and key do
    not fit together or are too weak.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    _load_identity(context, identity)
    return context


def _load_identity(context: ssl.SSLContext, identity: ServerIdentity) -> None:
    # OpenSSL reads keys from files only; an anonymous file in memory keeps the key off every disk.
    descriptor = os.memfd_create("intaglio-tls")
    try:
        os.write(descriptor, identity.chain.rstrip() + b"\n" + identity.key)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=_no_password)
    except ssl.SSLError as error:
        raise InvalidInput(
            f"The TLS certificate cannot be used: {_explained(error)}.",
            code="tls-certificate-invalid",
            remedy="Give the chain with the leaf first, and the unencrypted private key of the leaf "
            "(RSA of 2048 bits or more, or ECDSA).",
        ) from error
    finally:
        os.close(descriptor)


def _no_password() -> bytes:
    """Without this, OpenSSL would ask for the password of an encrypted key on the terminal."""
    return b""


def _explained(error: ssl.SSLError) -> str:
    return {
        "KEY_VALUES_MISMATCH": "the private key does not belong to the certificate",
        "EE_KEY_TOO_SMALL": "its key is too weak",
        "NO_START_LINE": "certificate or key is not PEM",
    }.get(error.reason or "", str(error.reason or error).replace("_", " ").lower())


def client_context(trusted: bytes, identity: ServerIdentity | None = None) -> ssl.SSLContext:
    """The context of a client that verifies servers against ``trusted`` (PEM; empty: what this host trusts) and
    presents ``identity``, if any.

    Raises InvalidInput when chain and key do not fit together.
    """
    context = ssl.create_default_context(cadata=trusted.decode("ascii"))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if identity is not None:
        _load_identity(context, identity)
    return context
