"""Client credentials that one of our CAs certifies renew themselves."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import SecretStr
from tests.support.authority import OPERATOR
from tests.support.foreign import ForeignCa

from intaglio.authority.directory import CaView
from intaglio.core import clock
from intaglio.core.errors import Forbidden, InvalidInput
from intaglio.core.principal import Permission, Principal
from intaglio.validation.authorities import credential_upkeep, credentials, est_credentials, issued_credentials
from intaglio.validation.authorities.est_credentials import EstServer
from intaglio.validation.context import Validation
from intaglio.x509.certificates import CertificateInfo, read_certificate
from intaglio.x509.names import Name


async def test_a_credential_is_renewed_without_anybody_asking(validation: Validation, issuing: CaView) -> None:
    made = await issued_credentials.issue(validation, OPERATOR, issuing.full_id, "CN=va,O=Demo")
    assert await credential_upkeep.renew_due(validation) == 0
    with clock.frozen(issued_credentials.renew_at(made) + timedelta(hours=1)):
        assert await credential_upkeep.renew_due(validation) == 1
        assert await credential_upkeep.renew_due(validation) == 0
        latest, before = await credentials.listing(validation, OPERATOR)
        assert (latest.subject, latest.replaces, before.id) == (made.subject, made.id, made.id)
        assert latest.private_key_id != made.private_key_id
        async with validation.database.read() as view:
            named = await credentials.identity_for(view, validation.keystore, made.id)
    shown = x509.load_pem_x509_certificates(named.chain)
    assert shown[0].serial_number == int.from_bytes(latest.serial)
    assert shown[0].extensions.get_extension_for_class(x509.ExtendedKeyUsage).value[0] == (
        x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH
    )
    with clock.frozen(made.not_after + timedelta(hours=1)):
        await credential_upkeep.renew_due(validation)
        left = await credentials.listing(validation, OPERATOR)
        assert made.id not in {each.id for each in left}


async def test_only_who_may_have_the_ca_sign_gets_a_credential(validation: Validation, issuing: CaView) -> None:
    manager = Principal("user", "max", frozenset({Permission.VALIDATION_MANAGE}))
    with pytest.raises(Forbidden):
        await issued_credentials.issue(validation, manager, issuing.full_id, "CN=va")


async def test_a_credential_that_came_by_est_is_renewed_there(
    validation: Validation, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca, asked = ForeignCa(), []

    async def ask(
        _: Validation, server: EstServer, operation: str, request: bytes, headers: dict[str, str], identity: object
    ) -> list[CertificateInfo]:
        asked.append((server.url, operation, "authorization" in headers, identity is not None))
        return [read_certificate(_certified(ca, request))]

    monkeypatch.setattr(est_credentials, "_ask", ask)
    server = EstServer.of("https://ca.example/.well-known/est/clients/")
    made = await est_credentials.enroll(
        validation, OPERATOR, server, Name.parse("CN=va"), "4711", SecretStr("code")
    )
    assert await credential_upkeep.renew_due(validation) == 0
    with clock.frozen(issued_credentials.renew_at(made) + timedelta(hours=1)):
        assert await credential_upkeep.renew_due(validation) == 1
        assert await credential_upkeep.renew_due(validation) == 0
        latest, before = await credentials.listing(validation, OPERATOR)
    assert (latest.replaces, before.id, latest.est) == (made.id, made.id, {"url": server.url, "anchors": ""})
    url = "https://ca.example/.well-known/est/clients"
    assert asked == [(url, "simpleenroll", True, False), (url, "simplereenroll", False, True)]


def _certified(ca: ForeignCa, request: bytes) -> bytes:
    csr = x509.load_der_x509_csr(request)
    now = clock.now()
    builder = x509.CertificateBuilder(
        x509.Name.from_rfc4514_string("CN=Foreign"), csr.subject, csr.public_key(), x509.random_serial_number(),
        now - timedelta(minutes=1), now + timedelta(days=90),
    )  # fmt: skip
    return builder.sign(ca.key, hashes.SHA256()).public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    "url",
    ["", "https://[", "https://ca.example:99999/x", "https://ca.example:x/", "https://\0/", "https://a/?b", "x" * 900],
)
def test_what_is_no_address_of_an_est_server_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        EstServer.of(url)
    assert refused.value.code == "est-url-invalid"


@pytest.mark.parametrize(
    "anchors", ["nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "\xe9"]
)
def test_cas_of_an_est_server_that_cannot_be_read_are_refused(anchors: str) -> None:
    with pytest.raises(InvalidInput):
        EstServer.of("https://ca.example/.well-known/est/x", anchors)
