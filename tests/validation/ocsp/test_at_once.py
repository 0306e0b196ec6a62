"""OCSP answers that are given without waiting say what the others say, and are given only while they may be."""

from __future__ import annotations

import base64
import secrets
from typing import Any
from urllib.parse import quote

import httpx
from cryptography import x509
from cryptography.x509 import ocsp
from tests.support.authority import OPERATOR
from tests.support.eventually import eventually
from tests.support.relying_party import issue_leaf, ocsp_request

from intaglio.authority.certificates import RevocationReason
from intaglio.authority.context import Authority
from intaglio.authority.directory import CaView
from intaglio.authority.revocation import change_status, revocation
from intaglio.core.principal import SYSTEM
from intaglio.db.engine import Database
from intaglio.platform import live_settings
from intaglio.validation.api import PublicApp

_PATH = "/ocsp/demo/issuing"


def _scope(path: str = _PATH, *headers: tuple[bytes, bytes], method: str = "POST") -> Any:
    return {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": list(headers),
    }  # fmt: skip


async def test_what_is_in_memory_is_given_at_once_as_it_is_otherwise(
    authority: Authority, issuing: CaView, public: PublicApp, client: httpx.AsyncClient
) -> None:
    leaf = await issue_leaf(authority)
    request = ocsp_request(leaf.der, issuing.certificate.der)
    path = f"{_PATH}/{quote(base64.b64encode(request), safe='')}"
    assert public.at_once(_scope(), request) is None
    posted, got = await client.post(_PATH, content=request), await client.get(path)
    decoded = httpx.URL(path).path  # as a server hands it to the application
    for usual, scope, body in ((posted, _scope(), request), (got, _scope(decoded, method="GET"), b"")):
        answer = public.at_once(scope, body)
        assert answer is not None
        status, headers, octets = answer
        assert (status, octets) == (usual.status_code, usual.content)
        assert {name.decode(): value.decode() for name, value in headers} == dict(usual.headers)
        assert scope["intaglio.route"] == "/ocsp"
    unchanged = (b"if-none-match", got.headers["etag"].encode())
    assert public.at_once(_scope(decoded, unchanged, method="GET"), b"") is None  # that is a 304
    assert public.at_once(_scope(decoded, method="HEAD"), b"") is None
    assert public.at_once(_scope("/crl/demo/issuing/crl.crl", method="GET"), b"") is None
    assert public.at_once(_scope("/eva/health", method="GET"), b"") is None


async def test_a_nonce_comes_back_at_once(
    authority: Authority, issuing: CaView, public: PublicApp, client: httpx.AsyncClient
) -> None:
    leaf = await issue_leaf(authority)
    nonce = secrets.token_bytes(16)
    first = ocsp_request(leaf.der, issuing.certificate.der, nonce=secrets.token_bytes(16))
    second = ocsp_request(leaf.der, issuing.certificate.der, nonce=nonce)

    async def is_known() -> bool:
        await client.post(_PATH, content=first)
        return public.at_once(_scope(), second) is not None

    await eventually(is_known)
    answer = public.at_once(_scope(), second)
    assert answer is not None
    response = ocsp.load_der_ocsp_response(answer[2])
    assert response.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == nonce


async def test_nothing_is_given_at_once_after_a_revocation_that_was_heard_of(
    authority: Authority, issuing: CaView, public: PublicApp, client: httpx.AsyncClient
) -> None:
    leaf = await issue_leaf(authority)
    request = ocsp_request(leaf.der, issuing.certificate.der)
    await client.post(_PATH, content=request)
    assert public.at_once(_scope(), request) is not None
    await change_status(authority, SYSTEM, issuing, leaf.serial, revocation(RevocationReason.SUPERSEDED))
    await eventually(lambda: public.at_once(_scope(), request) is None)
    answered = await client.post(_PATH, content=request)
    assert ocsp.load_der_ocsp_response(answered.content).certificate_status is ocsp.OCSPCertStatus.REVOKED


async def test_the_limits_count_for_answers_at_once_too(
    authority: Authority, issuing: CaView, public: PublicApp, client: httpx.AsyncClient, database: Database
) -> None:
    leaf = await issue_leaf(authority)
    request = ocsp_request(leaf.der, issuing.certificate.der)
    await client.post(_PATH, content=request)
    assert public.at_once(_scope(), request) is not None
    assert public.at_once(_scope(_PATH, (b"x-long", b"x" * 20_000)), request) is None
    async with database.transaction() as tx:
        await live_settings.change(tx, OPERATOR, "ocsp", {"log_requests": True})
    await eventually(lambda: public.at_once(_scope(), request) is None)
