"""Outbound credentials (of mutual TLS identity) for whoever on another floor calls somebody with one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from intaglio.core.errors import NotFound, NotSupported, Refused, StateConflict
from intaglio.transport.contexts import ServerIdentity
from intaglio.x509.certificates import pem

if TYPE_CHECKING:
    from intaglio.server.services import Services


class OutboundCredentials:
    """The credentials in use at this moment: after a rotation the next call shows the next one."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def identity(self, reference: str, host: str) -> ServerIdentity:
        """The credential of ORGANIZATION~NAME, to be shown to ``host``.

        Raises NotFound, StateConflict (``no-certificate-yet``), Refused (``credential-expired``,
        ``host-not-allowed``), NotSupported
        (``key-not-usable-for-tls``).
        """
        from intaglio.mtls.outbound import service

        organization, _, name = reference.partition("~")
        if not name:
            raise NotFound(f'"{reference[:100]}" is not ORGANIZATION~NAME.', code="outbound-unknown")
        async with self._services.database.read() as view:
            found = await service.load(view, organization, name)
            current = found.current
            if found.state == "retired" or current is None or current.certificate is None or current.not_after is None:
                raise StateConflict(f'"{reference}" has no certificate in use.', code="no-certificate-yet")
            if current.not_after <= view.now:
                raise Refused(f'The certificate of "{reference}" expired.', code="credential-expired")
            if not found.allows(host):
                raise Refused(f'"{reference}" is for {found.host_pattern}, not for {host}.', code="host-not-allowed")
            signer = await self._services.keystore.load(view, current.private_key_id)
        try:
            key = signer.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        except (TypeError, ValueError, NotImplementedError):
            raise NotSupported(
                "Keys that never leave their token cannot be used for TLS here.", code="key-not-usable-for-tls"
            ) from None
        return ServerIdentity("".join(map(pem, (current.certificate, *current.chain))).encode(), key)
