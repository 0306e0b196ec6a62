"""Revocation, and when to renew."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tests.enrollment.acme.conftest import House, problem
from tests.support.acme_client import AcmeClient, certificate_request, encoded, new_key
from tests.support.authority import issue_server_certificate

from intaglio.authority.certificates import RevocationReason
from intaglio.core import clock
from intaglio.enrollment import pipeline
from intaglio.enrollment.acme.replacement import certificate_identifier


def der(chain: str) -> bytes:
    return x509.load_pem_x509_certificates(chain.encode())[0].public_bytes(Encoding.DER)


def wish(certificate: bytes, **more: Any) -> dict[str, Any]:
    return {"certificate": encoded(certificate), **more}


async def status(house: House, certificate: bytes) -> tuple[str, RevocationReason | None]:
    (endpoint,) = await house.enrollment.endpoints.all()
    found = await pipeline.presented(house.enrollment, endpoint, certificate)
    assert found is not None
    return found.status, found.reason


async def test_an_account_revokes_its_certificate_once(house: House) -> None:
    await house.endpoint()
    client = await house.client()
    _, chain = await house.certificate(client, "www.example.com")
    url = client.directory["revokeCert"]
    answer = await client.post(url, wish(der(chain), reason=4))
    assert (answer.status_code, answer.content) == (200, b"")
    assert await status(house, der(chain)) == ("revoked", RevocationReason.SUPERSEDED)
    problem(await client.post(url, wish(der(chain))), "alreadyRevoked", 400)


async def test_a_key_revokes_its_certificate(house: House) -> None:
    await house.endpoint()
    client, key = await house.client(), new_key()
    order = await house.ready_order(client, "www.example.com")
    done = (await client.finalize(order, certificate_request(["www.example.com"], key=key))).json()
    certificate = der((await client.post(done["certificate"])).text)
    url = client.directory["revokeCert"]
    problem(await client.post(url, wish(certificate), key=new_key(), with_jwk=True), "unauthorized", 403)
    answer = await client.post(url, wish(certificate, reason=1), key=key, with_jwk=True)
    assert answer.status_code == 200, answer.text
    assert await status(house, certificate) == ("revoked", RevocationReason.KEY_COMPROMISE)


async def test_who_has_proven_all_names_revokes_a_certificate(house: House) -> None:
    await house.endpoint()
    owner, other = await house.client(), await house.client()
    _, chain = await house.certificate(owner, "a.example.com", "b.example.com")
    url = other.directory["revokeCert"]
    problem(await other.post(url, wish(der(chain))), "unauthorized", 403)
    await house.ready_order(other, "a.example.com")
    problem(await other.post(url, wish(der(chain))), "unauthorized", 403)
    await house.ready_order(other, "b.example.com")
    assert (await other.post(url, wish(der(chain)))).status_code == 200


@pytest.mark.parametrize("reason", [2, 6, 7, 8, 10, 11, -1, "1", True, 1.5])
async def test_reasons_that_are_not_a_subscribers_are_refused(house: House, reason: Any) -> None:
    await house.endpoint()
    client = await house.client()
    _, chain = await house.certificate(client, "www.example.com")
    answer = await client.post(client.directory["revokeCert"], wish(der(chain), reason=reason))
    problem(answer, "badRevocationReason", 400)
    assert (await status(house, der(chain)))[0] == "valid"


async def test_what_was_not_issued_here_is_not_revoked(house: House) -> None:
    await house.endpoint()
    client = await house.client()
    url = client.directory["revokeCert"]
    order, chain = await house.certificate(client, "www.example.com")
    issuer = x509.load_pem_x509_certificates(chain.encode())[-1].public_bytes(Encoding.DER)
    problem(await client.post(url, wish(issuer)), "malformed", 404)
    forged = bytearray(der(chain))
    forged[-1] ^= 1  # the signature
    problem(await client.post(url, wish(bytes(forged))), "malformed", 404)
    for value in (b"", b"\x30\x00", b"x"):
        problem(await client.post(url, wish(value)), "malformed", 400)
    problem(await client.post(url, {}), "malformed", 400)
    issued = await issue_server_certificate(house.enrollment.authority, "demo~issuing")  # by another way
    problem(await client.post(url, wish(issued.der)), "unauthorized", 403)
    assert order["status"] == "valid"


# ---- renewal information ---------------------------------------------------------------------------------------------


def identifier(certificate: bytes) -> str:
    """RFC 9773 section 4.1, by a library of our own and without it."""
    found = x509.load_der_x509_certificate(certificate)
    key = found.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert key is not None
    number = found.serial_number
    return f"{encoded(key)}.{encoded(number.to_bytes(number.bit_length() // 8 + 1, 'big'))}"


async def window(house: House, client: AcmeClient, certificate: bytes) -> tuple[datetime, datetime]:
    answer = await house.http.get(f"{client.directory['renewalInfo']}/{identifier(certificate)}")
    assert answer.status_code == 200, answer.text
    assert int(answer.headers["retry-after"]) > 0
    found = answer.json()["suggestedWindow"]
    return datetime.fromisoformat(found["start"]), datetime.fromisoformat(found["end"])


def test_a_certificate_is_named_as_in_the_standard() -> None:
    key = bytes.fromhex("69885B6B8746404041E1B37B847BA0AE2CDE01C8")  # RFC 9773 section 4.1
    assert certificate_identifier(key, bytes.fromhex("87654321")) == "aYhba4dGQEBB4bN7hHugrizeAcg.AIdlQyE"


async def test_the_window_lies_in_the_last_third_of_the_validity(house: House) -> None:
    await house.endpoint()
    client = await house.client()
    _, chain = await house.certificate(client, "www.example.com")
    start, end = await window(house, client, der(chain))
    certificate = x509.load_der_x509_certificate(der(chain))
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert certificate.not_valid_before_utc + lifetime * 0.6 < start < end < certificate.not_valid_after_utc


async def test_a_revoked_certificate_is_renewed_at_once(house: House) -> None:
    await house.endpoint()
    client = await house.client()
    _, chain = await house.certificate(client, "www.example.com")
    await client.post(client.directory["revokeCert"], wish(der(chain)))
    start, end = await window(house, client, der(chain))
    assert start < end < clock.now()


async def test_renewal_information_is_for_certificates_of_the_ca(house: House) -> None:
    await house.endpoint()
    client = await house.client()
    _, chain = await house.certificate(client, "www.example.com")
    key, _, number = identifier(der(chain)).partition(".")
    url = client.directory["renewalInfo"]
    for text, code in (
        (f"{key}.{encoded(b'12345')}", 404),
        (f"{encoded(bytes(20))}.{number}", 404),
        (key, 400),
        (f"{key}.", 400),
        (f"{key}.{number}=", 400),
        ("x" * 300, 400),
        (f"{key}.{number}/more", 404),
    ):
        problem(await house.http.get(f"{url}/{text}"), "malformed", code)


async def test_an_order_replaces_a_certificate_of_its_account_once(house: House) -> None:
    await house.endpoint(options={"rates": {"orders_per_account": 1}})
    client, other = await house.client(), await house.client()
    _, chain = await house.certificate(client, "www.example.com")
    replaces = identifier(der(chain))
    problem(await other.order("www.example.com", replaces=replaces), "unauthorized", 403)
    problem(await client.order("else.example.com", replaces=replaces), "malformed", 400)
    problem(await client.order("www.example.com", replaces="x"), "malformed", 400)
    problem(await client.order("www.example.com", replaces=5), "malformed", 400)
    # Renewing is not what rates are against.
    answer = await client.order("www.example.com", "more.example.com", replaces=replaces)
    assert answer.status_code == 201, answer.text
    problem(await client.order("www.example.com", replaces=replaces), "alreadyReplaced", 409)
    # An order that comes to nothing replaces nothing.
    for url in answer.json()["authorizations"]:
        await client.post(url, {"status": "deactivated"})
    assert (await client.order("www.example.com", replaces=replaces)).status_code == 201

