"""The server certificate that the platform makes for itself."""

from __future__ import annotations

from datetime import timedelta

import pytest
from httpx import AsyncClient
from tests.server import certificates
from tests.server.management_client import Management

from intaglio.core.principal import SYSTEM
from intaglio.platform.server_identities import ServerIdentityInfo, list_identities
from intaglio.server import platform_identity
from intaglio.server.platform_identity import ensure_identity


async def served(management: Management) -> ServerIdentityInfo:
    async with management.services.database.read() as view:
        (default,) = await list_identities(view, SYSTEM)
    return default


async def test_the_host_and_its_addresses_are_named(management: Management) -> None:
    await ensure_identity(management.services)
    assert {"pki.example", "localhost", "127.0.0.1", "::1"} <= set((await served(management)).names)


@pytest.mark.parametrize(("days_left", "renewed"), [(364, False), (366, True)])
async def test_it_is_renewed_in_time_and_not_before(
    management: Management, monkeypatch: pytest.MonkeyPatch, days_left: int, renewed: bool
) -> None:
    await ensure_identity(management.services)
    first = await served(management)
    monkeypatch.setattr(platform_identity, "_RENEW_BEFORE", timedelta(days=days_left))
    await ensure_identity(management.services)
    second = await served(management)
    assert second.issuer == first.issuer
    assert (second.fingerprint != first.fingerprint) == renewed


async def test_another_name_of_the_host_brings_another_certificate(management: Management) -> None:
    await ensure_identity(management.services)
    management.services.settings.hostname = "other.example"
    await ensure_identity(management.services)
    assert "other.example" in (await served(management)).names


async def test_an_imported_certificate_is_served_until_it_is_removed(
    management: Management, operator: AsyncClient
) -> None:
    await ensure_identity(management.services)
    imported = certificates.server(certificates.authority("Root"), "localhost")
    body = {"certificate": imported.pem.decode(), "key": imported.key_pem.decode()}
    assert (await operator.put("/server-certificates/default", json=body)).status_code == 200
    await ensure_identity(management.services)
    assert (await served(management)).origin == "imported"
    auditor = await management.user("olga", "auditor")
    assert (await auditor.delete("/server-certificates/default")).status_code == 403
    assert (await operator.delete("/server-certificates/default")).status_code == 204
    own = await served(management)
    assert (own.origin, "pki.example" in own.names) == ("platform", True)
