"""The server certificate of the platform's own making: made at the first start, renewed before it ends.

A certificate that was imported is left alone until it is removed.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from datetime import timedelta

from intaglio.authority.bootstrap import make_server_certificate
from intaglio.authority.locks import lock
from intaglio.core import clock
from intaglio.core.logging import get_logger
from intaglio.core.principal import SYSTEM, Permission, Principal
from intaglio.core.settings import Settings
from intaglio.db.engine import Transaction
from intaglio.platform import server_identities
from intaglio.server.services import Services

log = get_logger(__name__)

_RENEW_BEFORE = timedelta(days=60)  # of a year


async def ensure_identity(services: Services) -> None:
    """Make or renew the default server certificate when it is due. Safe in any number of processes at once."""
    if services.settings.tls_certificate is not None or not await _is_due(services):
        return
    async with services.database.transaction() as tx:
        await lock(tx, "server-identity")
        if not await _is_due(services):
            return
        await _make(services, tx, SYSTEM)


async def restore_identity(services: Services, principal: Principal) -> None:
    """Put a certificate of the platform's own in the place of an imported default one, to be renewed by itself again.

    Needs ``platform.manage``. Raises Forbidden.
    """
    principal.require(Permission.PLATFORM_MANAGE)
    async with services.database.transaction() as tx:
        await lock(tx, "server-identity")
        await _make(services, tx, principal)


async def _make(services: Services, tx: Transaction, principal: Principal) -> None:
    names, addresses = host_names(services.settings)
    chain, key = await make_server_certificate(services.authority, names, addresses)
    made = await server_identities.install(tx, principal, services.master_key, chain, key, origin="platform")
    log.info("made a server certificate", names=list(made.names), not_after=clock.rfc3339(made.not_after))


async def _is_due(services: Services) -> bool:
    async with services.database.read() as view:
        found = {each.listener: each for each in await server_identities.list_identities(view, SYSTEM)}
    current = found.get(server_identities.DEFAULT)
    if current is None:
        return True
    if current.origin != "platform":
        return False
    names, addresses = host_names(services.settings)
    named = services.settings.hostname
    # Only the configured name forces a new certificate: the addresses of a host come and go.
    return current.not_after - clock.now() < _RENEW_BEFORE or (
        named in {*names, *addresses} and named not in current.names
    )


def host_names(settings: Settings) -> tuple[list[str], list[str]]:
    """DNS names and IP addresses under which the listeners of this host are reached."""
    names: list[str] = []
    addresses: list[str] = []
    for host in dict.fromkeys([settings.hostname, socket.gethostname().lower(), "localhost"]):
        (addresses if _is_address(host) else names).append(host)
    return names, list(dict.fromkeys([*addresses, "127.0.0.1", "::1", *_local_addresses()]))


def _local_addresses() -> Iterator[str]:
    try:
        found = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
    except OSError:
        return
    for *_, address in found:
        host = str(address[0]).partition("%")[0]
        if not ipaddress.ip_address(host).is_link_local:
            yield host


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
