"""Who may speak to the gateway: everything that is not exactly a valid credential of this platform is turned away."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from tests.support.pki import Pki, admin, ca_body, certificate_request, eventually, issued, ok, refusal
from tests.support.product import Product

from intaglio.core import clock

Forge = Callable[[x509.Certificate], tuple[x509.Certificate, Any]]


@pytest.fixture(scope="module")
def elsewhere(product: Product) -> Pki:
    """A PKI of another organization on the same server."""
    return Pki.create(product, "elsewhere")


async def test_no_certificate_is_refused_with_an_answer(pki: Pki) -> None:
    async with pki.http(None) as nobody:
        assert refusal(await nobody.client.get(""), 401)["code"] == "cagw-4010"
        assert refusal(await nobody.enroll(certificate_request()), 401)["code"] == "cagw-4010"


def _self_signed(alice: x509.Certificate) -> tuple[x509.Certificate, Any]:
    return _forged(alice.subject, alice.subject)


def _copied(alice: x509.Certificate) -> tuple[x509.Certificate, Any]:
    """All names, the serial number and the key identifiers of the true one, signed by somebody else's key."""
    return _forged(alice.subject, alice.issuer, alice.serial_number, list(alice.extensions))


def _foreign(alice: x509.Certificate) -> tuple[x509.Certificate, Any]:
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Somebody's client CA")])
    return _forged(alice.subject, issuer)


@pytest.mark.parametrize("forge", [_self_signed, _copied, _foreign])
async def test_the_right_name_from_the_wrong_issuer_is_refused(pki: Pki, forge: Forge) -> None:
    alice = x509.load_pem_x509_certificate(pki.clients["alice"].read_bytes())
    pki.present("impostor", *forge(alice))
    await _is_turned_away(pki, "impostor")


async def test_a_certificate_of_an_issuing_ca_is_no_credential(pki: Pki) -> None:
    """Alice may have certificates issued for any name, also for her colleagues' and her own."""
    alice = x509.load_pem_x509_certificate(pki.clients["alice"].read_bytes())
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(alice.subject).sign(key, hashes.SHA256())
    async with pki.http() as gateway:
        answer = await gateway.enroll(request.public_bytes(Encoding.DER), profileId="privatessl-tls-client")
    pki.present("colleague", x509.load_der_x509_certificate(issued(answer).der), key)
    await _is_turned_away(pki, "colleague")


async def test_an_expired_credential_is_refused(pki: Pki) -> None:
    end = clock.now() + timedelta(seconds=2)
    with admin(pki.product) as http:
        right = {"right": "auditor", "credential": {"not_after": clock.rfc3339(end)}}
        pki.keep(ok(http.put(f"/cas/{pki.issuing}/grants/carol", json=right)).json()["credential"])
    await eventually(lambda: clock.now() > end + timedelta(seconds=1), what="time passes")
    await _is_turned_away(pki, "carol")


async def test_a_revoked_credential_is_refused_at_once_also_on_open_connections(pki: Pki) -> None:
    with admin(pki.product) as http:
        right = {"right": "auditor"}
        pki.keep(ok(http.put(f"/cas/{pki.issuing}/grants/dave", json=right)).json()["credential"])
        async with pki.http("dave") as dave:
            ok(await dave.client.get(f"/{pki.issuing}"))
            ok(http.delete(f"/organizations/{pki.organization}/credentials/dave"))
            assert refusal(await dave.client.get(f"/{pki.issuing}"), 401)["code"] == "cagw-4011"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("GET", "/profiles", None),
        ("GET", "/certificates/12", None),
        ("GET", "/certificate-events", None),
        ("GET", "/crl", None),
        ("POST", "/enrollments", {"profileId": "privatessl-tls-server", "csr": "AAAA"}),
        ("POST", "/enrollments", {"nonsense": True}),
        ("POST", "/certificates/12/actions", {"action": {"type": "RevokeAction"}}),
    ],
)
async def test_a_ca_of_others_answers_exactly_like_one_that_does_not_exist(
    pki: Pki, elsewhere: Pki, method: str, path: str, body: Any
) -> None:
    async with pki.http() as gateway:
        real = await gateway.client.request(method, f"/{elsewhere.issuing}{path}", json=body)
        invented = await gateway.client.request(method, f"/elsewherf~issuing{path}", json=body)
    assert real.status_code == 404
    assert _bare(real, elsewhere.issuing) == _bare(invented, "elsewherf~issuing")


async def test_a_deleted_ca_is_gone_for_its_clients(pki: Pki) -> None:
    with admin(pki.product) as http:
        body = {**ca_body("short-lived"), "kind": "issuing", "issuer": "root"}
        ok(http.post(f"/organizations/{pki.organization}/cas", json=body))
        async with pki.http() as gateway:
            path = f"/{pki.organization}~short-lived"
            ok(await gateway.client.get(path))
            ok(http.delete(f"/cas/{pki.organization}~short-lived"))
            assert refusal(await gateway.client.get(path), 404)["code"] == "cagw-4018"


def _forged(
    subject: x509.Name, issuer: x509.Name, serial: int = 4711, extensions: list[x509.Extension[Any]] | None = None
) -> tuple[x509.Certificate, Any]:
    key, issuer_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    start = clock.now() - timedelta(hours=1)
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), serial, start, start + timedelta(days=1))
    if extensions is None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    for each in extensions or ():
        builder = builder.add_extension(each.value, each.critical)
    return builder.sign(key if subject == issuer else issuer_key, hashes.SHA256()), key


async def _is_turned_away(pki: Pki, client: str) -> None:
    """In the handshake (with TLS 1.3 the client learns of it at its first reading), or with 401."""
    async with pki.http(client) as gateway:
        try:
            answer = await gateway.client.get("")
        except (httpx.TransportError, ssl.SSLError):
            return
        refusal(answer, 401)


def _bare(answer: httpx.Response, ca: str) -> tuple[Any, ...]:
    """Status, headers and body without the CA's name and what differs in every answer."""
    differing = ("date", "x-correlation-id")
    headers = [(name, value) for name, value in answer.headers.items() if name not in differing]
    return answer.status_code, headers, answer.text.replace(ca, "CA")
