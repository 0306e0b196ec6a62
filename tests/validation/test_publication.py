"""CRLs and CA certificates at the URLs that stand in certificates."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import AuthorityInformationAccessOID
from tests.support.authority import OPERATOR, openssl
from tests.support.eventually import eventually
from tests.support.relying_party import certificate, issue_leaf, listening

from intaglio.authority import crls
from intaglio.authority.cas.delete import delete_ca
from intaglio.authority.context import Authority
from intaglio.authority.directory import CaView
from intaglio.core.errors import Unavailable
from intaglio.db.engine import Database
from intaglio.db.listen import Watch
from intaglio.keystore.service import KeyStore
from intaglio.validation.api import PublicApp, public_app


async def test_the_crl_is_at_the_url_in_the_certificate(
    authority: Authority, issuing: CaView, client: httpx.AsyncClient
) -> None:
    leaf = await issue_leaf(authority)
    points = certificate(leaf.der).extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert points[0].full_name is not None
    assert (await client.get(points[0].full_name[0].value)).status_code == 404
    (crl,) = await crls.issue_crl(authority, OPERATOR, issuing)
    got = await client.get(points[0].full_name[0].value)
    assert (got.status_code, got.content) == (200, crl.der)
    assert got.headers["content-type"] == "application/pkix-crl"
    seconds = int(got.headers["cache-control"].split(",")[0].removeprefix("max-age="))
    assert 0 < seconds <= 24 * 3600


async def test_caches_keep_a_crl_no_longer_than_what_is_left_of_it(
    authority: Authority, issuing: CaView, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    (crl,) = await crls.issue_crl(authority, OPERATOR, issuing)
    first = await client.get("/crl/demo/issuing/crl.crl")
    later = crl.facts.this_update + timedelta(hours=23)
    monkeypatch.setattr("intaglio.validation.publication.clock.now", lambda: later)
    for headers in ({}, {"if-none-match": first.headers["etag"]}):
        again = await client.get("/crl/demo/issuing/crl.crl", headers=headers)
        assert again.headers["cache-control"].startswith("max-age=3600,")
        assert again.headers["expires"] == first.headers["expires"]


async def test_a_copy_that_is_still_current_is_not_sent_again(
    authority: Authority, issuing: CaView, client: httpx.AsyncClient
) -> None:
    await crls.issue_crl(authority, OPERATOR, issuing)
    first = await client.get("/crl/demo/issuing/crl.crl")
    for validator in ({"if-none-match": first.headers["etag"]}, {"if-modified-since": first.headers["last-modified"]}):
        again = await client.get("/crl/demo/issuing/crl.crl", headers=validator)
        assert (again.status_code, again.content) == (304, b"")
    head = await client.head("/crl/demo/issuing/crl.crl")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(first.content))


@pytest.mark.parametrize("zone", ["+99999999999999999999", "GMT"])
async def test_a_date_that_cannot_be_is_as_good_as_none(
    authority: Authority, issuing: CaView, client: httpx.AsyncClient, zone: str
) -> None:
    await crls.issue_crl(authority, OPERATOR, issuing)
    since = f"Mon, 01 Jan {'2024' if zone[0] == '+' else '9' * 30} 00:00:00 {zone}"
    assert (await client.get("/crl/demo/issuing/crl.crl", headers={"if-modified-since": since})).status_code == 200


@pytest_asyncio.fixture
async def other(authority: Authority, database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Requests to a second worker, with connections of its own."""
    database, keystore = Database(database_url, pool_size=2), KeyStore(authority.keystore.master)
    second, watch = Authority(authority.settings, database, keystore), Watch(database)
    await watch.start()
    await eventually(lambda: watch.current)
    app = public_app(second, watch)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://pki.example") as client:
        yield client
    await app.close()
    await watch.stop()
    keystore.close()
    await database.close()


async def test_a_new_crl_is_served_at_once_by_every_worker(
    authority: Authority,
    issuing: CaView,
    client: httpx.AsyncClient,
    other: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("intaglio.validation.publication._RECHECK_SECONDS", 3600.0)
    for _ in range(3):
        (crl,) = await crls.issue_crl(authority, OPERATOR, issuing)
        for worker in (client, other):
            await eventually(lambda worker=worker, crl=crl: _is_served(worker, crl.der))  # type: ignore[misc]


async def test_a_new_crl_that_nobody_heard_of_is_served_within_a_second_or_so(
    authority: Authority, issuing: CaView, client: httpx.AsyncClient, watch: Watch
) -> None:
    await crls.issue_crl(authority, OPERATOR, issuing)
    await client.get("/crl/demo/issuing/crl.crl")
    await watch.stop()
    (second,) = await crls.issue_crl(authority, OPERATOR, issuing)
    await eventually(lambda: _is_served(client, second.der), timeout=2.0)


async def _is_served(client: httpx.AsyncClient, crl: bytes) -> bool:
    return (await client.get("/crl/demo/issuing/crl.crl")).content == crl


async def test_without_the_database_the_last_crl_is_served_while_it_is_valid(
    authority: Authority, issuing: CaView, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    (crl,) = await crls.issue_crl(authority, OPERATOR, issuing)
    await client.get("/crl/demo/issuing/crl.crl")

    async def gone(*_: object) -> None:
        raise Unavailable("The database is not reachable.")

    monkeypatch.setattr("intaglio.validation.publication.crls.latest_facts", gone)
    monkeypatch.setattr("intaglio.validation.publication._RECHECK_SECONDS", 0.0)
    assert (await client.get("/crl/demo/issuing/crl.crl")).content == crl.der
    monkeypatch.setattr("intaglio.validation.publication.clock.now", lambda: crl.facts.next_update)
    refused = await client.get("/crl/demo/issuing/crl.crl")
    assert refused.status_code == 503
    assert "retry-after" in refused.headers


async def test_a_deleted_ca_stays_published(authority: Authority, issuing: CaView, client: httpx.AsyncClient) -> None:
    (crl,) = await crls.issue_crl(authority, OPERATOR, issuing)
    await delete_ca(authority, OPERATOR, issuing.full_id)
    assert (await client.get("/crl/demo/issuing/crl.crl")).content == crl.der
    assert (await client.get("/aia/demo/issuing/ca.cer")).content == issuing.chain[0]


async def test_the_issuer_is_at_the_url_in_the_certificate(
    authority: Authority, issuing: CaView, client: httpx.AsyncClient
) -> None:
    leaf = await issue_leaf(authority)
    access = certificate(leaf.der).extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    urls = {entry.access_method: entry.access_location.value for entry in access}
    got = await client.get(urls[AuthorityInformationAccessOID.CA_ISSUERS])
    assert (got.status_code, got.headers["content-type"]) == (200, "application/pkix-cert")
    assert got.content == issuing.certificate.der


async def test_the_chain_comes_as_pem_and_as_pkcs7(issuing: CaView, client: httpx.AsyncClient) -> None:
    own = await client.get("/aia/demo/issuing/ca.pem")
    assert x509.load_pem_x509_certificate(own.content) == certificate(issuing.chain[0])
    chain = await client.get("/aia/demo/issuing/chain.pem")
    assert x509.load_pem_x509_certificates(chain.content) == [certificate(der) for der in issuing.chain]
    bundle = (await client.get("/aia/demo/issuing/ca.p7c")).content
    assert set(pkcs7.load_der_pkcs7_certificates(bundle)) == {certificate(der) for der in issuing.chain}
    assert "CN = issuing" in openssl("pkcs7", "-inform", "der", "-print_certs", stdin=bundle)


@pytest.mark.parametrize(
    "path",
    [
        "/crl/demo/issuing/other.crl",
        "/crl/demo/issuing/g2-crl.crl",
        "/crl/demo/issuing/g01-crl.crl",
        "/crl/demo/issuing/p1-crl.crl",
        "/crl/demo/issuing/crl.crl/",
        "/crl/demo/nobody/crl.crl",
        "/crl/nobody/issuing/crl.crl",
        "/crl/demo/issuing/..%2F..%2Fcrl.crl",
        "/aia/demo/issuing/ca-g2.cer",
        "/aia/demo/issuing/key.pem",
        "/aia/demo/issuing",
        "/",
        "/favicon.ico",
    ],
)
async def test_everything_else_is_not_found(issuing: CaView, client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404


async def test_other_methods_are_refused(client: httpx.AsyncClient) -> None:
    refused = await client.post("/crl/demo/issuing/crl.crl", content=b"x")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


async def test_curl_fetches_the_crl_over_http(
    authority: Authority, issuing: CaView, public: PublicApp, tmp_path: Path
) -> None:
    (crl,) = await crls.issue_crl(authority, OPERATOR, issuing)
    target = tmp_path / "crl.crl"
    async with listening(public) as base:
        arguments = ["curl", "--fail", "--silent", "--output", str(target), f"{base}/crl/demo/issuing/crl.crl"]
        curl = await asyncio.create_subprocess_exec(*arguments)
        assert await curl.wait() == 0
    assert target.read_bytes() == crl.der
