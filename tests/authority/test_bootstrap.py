"""The platform's own CA and the certificates of its listeners."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import func, select
from tests.support.authority import OPERATOR, openssl, tenant

from intaglio.authority import models
from intaglio.authority.bootstrap import ensure_platform_ca, make_server_certificate, platform_root
from intaglio.authority.cas.views import list_cas
from intaglio.authority.context import Authority
from intaglio.core.errors import InvalidInput
from intaglio.core.settings import Settings
from intaglio.db.engine import Database
from intaglio.keystore.service import KeyStore
from intaglio.x509.certificates import pem, read_certificates


async def test_a_listener_certificate_verifies_for_its_names_and_addresses(
    authority: Authority, tmp_path: Path
) -> None:
    chain, key = await make_server_certificate(authority, ["pki.example", "localhost"], ["127.0.0.1", "::1"])
    (tmp_path / "root.pem").write_text(pem(await platform_root(authority)))
    (tmp_path / "server.pem").write_bytes(chain)
    for check in (["-verify_hostname", "pki.example"], ["-verify_hostname", "localhost"], ["-verify_ip", "::1"]):
        openssl(
            "verify", "-x509_strict", "-purpose", "sslserver", *check, "-CAfile", tmp_path / "root.pem",
            tmp_path / "server.pem",
        )  # fmt: skip
    public = openssl("pkey", "-pubout", stdin=key)
    assert public == openssl("x509", "-noout", "-pubkey", stdin=chain)
    assert len(read_certificates(chain)) == 1


async def test_names_that_are_no_dns_names_are_left_out(authority: Authority) -> None:
    chain, _ = await make_server_certificate(authority, ["my host", "pki.example"])
    san = read_certificates(chain)[0].san
    assert san is not None
    assert san.text == ["dNSName=pki.example"]
    with pytest.raises(InvalidInput):
        await make_server_certificate(authority, ["my host"])


async def test_many_processes_starting_at_once_make_one_platform_ca(
    database: Database, keystore: KeyStore, tmp_path: Path, database_url: str
) -> None:
    settings = Settings(data_dir=tmp_path, hostname="pki.example")
    databases = [Database(database_url, pool_size=2) for _ in range(4)]
    started = [Authority(settings, each, keystore) for each in databases]
    found = await asyncio.gather(*(ensure_platform_ca(each) for each in started))
    async with database.read() as view:
        count = await view.scalar(select(func.count()).select_from(models.ca).where(models.ca.c.kind == "platform"))
    for each in databases:
        await each.close()
    assert count == 1
    assert len({ca.id for ca in found}) == 1


async def test_only_the_operator_sees_the_platform_ca(authority: Authority) -> None:
    await ensure_platform_ca(authority)
    assert [ca.id for ca in await list_cas(authority, OPERATOR, internal=True)] == ["platform~listeners"]
    assert await list_cas(authority, OPERATOR) == []
    assert await list_cas(authority, tenant("carol"), internal=True) == []
