"""The challenge tls-alpn-01 (RFC 8737, for addresses RFC 8738 section 6).

The certificate of a challenge is self-signed by definition; what makes it good is what it says. So the verification of
the handshake is the standard's own: the certificate must be for exactly this name and carry the digest of the key
authorization, or the handshake ends.
"""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Any, Final

from OpenSSL import SSL, crypto

from intaglio.asn1 import der
from intaglio.core.errors import InvalidInput
from intaglio.core.outgoing import connect_to
from intaglio.enrollment.acme.validation.hosts import Hosts
from intaglio.enrollment.acme.validation.options import ValidationOptions
from intaglio.enrollment.acme.validation.values import Target, ValidationFailed
from intaglio.x509.certificates import CertificateInfo, read_certificate

ALPN: Final = b"acme-tls/1"
ACME_IDENTIFIER: Final = "1.3.6.1.5.5.7.1.31"
_MOST_OCTETS = 1 << 17  # of a handshake


async def prove(hosts: Hosts, options: ValidationOptions, target: Target) -> None:
    """Return when the host shows the certificate of the challenge. Raises ValidationFailed."""
    if target.wildcard:
        raise ValidationFailed("malformed", "tls-alpn-01 proves no wildcards (RFC 8737 section 3).")
    where = f"{target.value} port {options.tls_port}"
    addresses = await hosts.addresses(target.value, options.tls_port)
    try:
        async with asyncio.timeout(options.tls_timeout):
            reader, writer = await connect_to(addresses, options.tls_port)
            try:
                await _Handshake(target).run(reader, writer)
            finally:
                writer.transport.abort()
    except TimeoutError:
        raise ValidationFailed("connection", f"{where} did not answer within {options.tls_timeout:g} s.") from None
    except OSError:
        raise ValidationFailed("connection", f"{where} cannot be reached.") from None


class _Handshake:
    """One handshake with the host of a challenge."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._wrong = ""
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_alpn_protos([ALPN])
        context.set_verify(SSL.VERIFY_PEER, self._verified)
        self._connection = SSL.Connection(context, None)
        self._connection.set_tlsext_host_name(self._server_name().encode("ascii"))
        self._connection.set_connect_state()

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Shake hands. Raises ValidationFailed (tls, unauthorized), OSError."""
        received = 0
        while True:
            try:
                self._connection.do_handshake()
            except SSL.WantReadError:
                await self._send(writer)
                data = await reader.read(8192)
                received += len(data)
                if not data or received > _MOST_OCTETS:
                    raise self._refused("it ended the handshake" if not data else "its handshake is too long") from None
                self._connection.bio_write(data)
            except SSL.Error as error:
                raise self._refused(_reason(error)) from None
            else:
                break
        if self._connection.get_alpn_proto_negotiated() != ALPN:
            raise self._refused("it does not speak acme-tls/1")

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(self._connection.bio_read(1 << 16))
        except SSL.WantReadError:
            return
        await writer.drain()

    def _refused(self, why: str) -> ValidationFailed:
        if self._wrong:
            return ValidationFailed("unauthorized", f"The certificate of {self._target.value} {self._wrong}.")
        return ValidationFailed("tls", f"{self._target.value} does not answer the challenge by TLS: {why}.")

    def _server_name(self) -> str:
        return self._target.reverse_name if self._target.kind == "ip" else self._target.value

    def _verified(self, connection: SSL.Connection, shown: crypto.X509, error: int, depth: int, ok: int) -> bool:
        """OpenSSL asks about every certificate, several times about some; the leaf decides."""
        if depth:
            return True
        try:
            self._wrong = self._judge(read_certificate(crypto.dump_certificate(crypto.FILETYPE_ASN1, shown)))
        except InvalidInput:
            self._wrong = "cannot be read"
        return not self._wrong

    def _judge(self, shown: CertificateInfo) -> str:
        """What is wrong with the certificate of the challenge; empty when it is good (RFC 8737 section 3)."""
        names = shown.san.entries if shown.san is not None else ()
        if [(each.type, each.text.lower()) for each in names] != [_expected(self._target)]:
            return "has other names than the one that is proven"
        extension = next((each for each in shown.extensions if each.oid == ACME_IDENTIFIER), None)
        if extension is None or not extension.critical:
            return "has no critical acmeIdentifier"
        if extension.value != der.octet_string(self._target.digest):
            return "answers another challenge"
        if shown.subject.der != shown.issuer.der or not shown.verify_signed_by(shown.spki):
            return "is not self-signed"
        return ""


def _expected(target: Target) -> tuple[str, str]:
    if target.kind == "ip":
        return "iPAddress", str(ipaddress.ip_address(target.value))
    return "dNSName", target.value.lower()


def _reason(error: SSL.Error) -> str:
    arguments: tuple[Any, ...] = error.args
    details = arguments[0] if arguments and isinstance(arguments[0], list) else []
    return str(details[0][-1]) if details else "the connection ended"
