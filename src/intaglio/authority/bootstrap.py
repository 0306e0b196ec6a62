"""What an installation needs before anybody configures it: the platform's own CA, for its listeners.

A listener for which no certificate was imported presents one from here. Clients trust it by installing the platform's
root certificate, which is public.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy import insert

from intaglio.asn1.algorithms import KeyAlgorithm, generate_private_key, spki
from intaglio.audit import record as audit
from intaglio.authority import internal_profiles, models
from intaglio.authority.client_ca import create_internal_ca
from intaglio.authority.configuration import ConfigurationChange, changing
from intaglio.authority.context import Authority
from intaglio.authority.directory import CaView, Snapshot
from intaglio.authority.issuance import Order, issue_in
from intaglio.authority.organizations import PLATFORM_ORGANIZATION
from intaglio.core.errors import InvalidInput
from intaglio.core.identifiers import new_id
from intaglio.core.principal import SYSTEM, Permission
from intaglio.profiles.engine import IssuanceInput
from intaglio.x509.certificates import pem
from intaglio.x509.general_names import GeneralNames
from intaglio.x509.host_names import is_dns_name
from intaglio.x509.names import EMPTY_NAME, Name

PLATFORM_CA_ID: Final = "listeners"
_LONGEST_COMMON_NAME: Final = 64


async def ensure_platform_ca(authority: Authority) -> CaView:
    """The platform's own CA, created when there is none. Safe to call from any number of processes at once."""
    snapshot = await authority.snapshot()
    if (found := _platform_ca(snapshot)) is None:
        async with changing(authority, SYSTEM, Permission.PLATFORM_MANAGE) as change:
            found = _platform_ca(await change.locked())
            if found is None:
                found = await _create(change)
    return found


async def platform_root(authority: Authority) -> bytes:
    """The root certificate (DER) that clients of the listeners have to trust."""
    return (await ensure_platform_ca(authority)).certificate.der


async def make_server_certificate(
    authority: Authority, names: Sequence[str], addresses: Sequence[str] = ()
) -> tuple[bytes, bytes]:
    """A server certificate for a listener, valid for a year, and its fresh P-256 key.

    ``names`` are host names (what is no DNS name is left out), ``addresses`` IP addresses. Returns the chain without
    its root and the unencrypted PKCS #8 key, both PEM. Raises InvalidInput when no name or address is left.
    """
    ca = await ensure_platform_ca(authority)
    hosts = [name for name in dict.fromkeys(names) if is_dns_name(name)]
    if not hosts and not addresses:
        raise InvalidInput("A server certificate needs a DNS name or an IP address.", target="hostname")
    key = generate_private_key(KeyAlgorithm.ECDSA_P256)
    order = Order(
        ca=ca,
        profile=internal_profiles.listener(),
        input=IssuanceInput(
            subject=_subject([*hosts, *addresses]),
            spki=spki(key.public_key()),
            key_algorithm=KeyAlgorithm.ECDSA_P256,
            channel="platform",
            san=GeneralNames.build(
                [*(("dNSName", host) for host in hosts), *(("iPAddress", each) for each in dict.fromkeys(addresses))]
            ),
        ),
    )
    async with authority.database.transaction() as tx:
        issued = await issue_in(authority, tx, SYSTEM, order)
    chain = "".join(map(pem, [issued.der, *issued.chain[:-1]])).encode()
    return chain, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _platform_ca(snapshot: Snapshot) -> CaView | None:
    return next((ca for ca in snapshot.cas.values() if ca.kind == "platform" and ca.state == "active"), None)


async def _create(change: ConfigurationChange) -> CaView:
    tx, organization_id = change.tx, new_id()
    await tx.execute(
        insert(models.organization).values(
            id=organization_id,
            name=PLATFORM_ORGANIZATION,
            join_policy="invite",
            description="The platform itself",
            created_by=SYSTEM.name,
            created_at=tx.now,
        )
    )
    audit.record(tx, SYSTEM, "organization.create", "organization", PLATFORM_ORGANIZATION)
    # The suffix tells the roots of two installations on one host apart in a client's trust store.
    host = change.authority.settings.hostname[:40]
    subject = Name.build([("O", "Intaglio platform"), ("CN", f"{host} listeners {secrets.token_hex(4)}")])
    ca_id = await create_internal_ca(
        change.authority.keystore,
        tx,
        SYSTEM,
        organization_id,
        PLATFORM_ORGANIZATION,
        PLATFORM_CA_ID,
        "platform",
        subject,
    )
    return (await change.read()).cas[ca_id]


def _subject(names: Sequence[str]) -> Name:
    """The first name that fits a common name; names are looked for in the SAN, the CN is for people."""
    fitting = next((name for name in names if len(name) <= _LONGEST_COMMON_NAME), None)
    return Name.build([("CN", fitting)]) if fitting else EMPTY_NAME
