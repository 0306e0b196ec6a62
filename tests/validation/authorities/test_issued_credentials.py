"""Client credentials that one of our CAs certifies renew themselves."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from tests.support.authority import OPERATOR

from intaglio.authority.directory import CaView
from intaglio.core import clock
from intaglio.core.errors import Forbidden
from intaglio.core.principal import Permission, Principal
from intaglio.validation.authorities import credentials, issued_credentials
from intaglio.validation.context import Validation


async def test_a_credential_is_renewed_without_anybody_asking(validation: Validation, issuing: CaView) -> None:
    made = await issued_credentials.issue(validation, OPERATOR, issuing.full_id, "CN=va,O=Demo")
    assert await issued_credentials.renew_due(validation) == 0
    with clock.frozen(issued_credentials.renew_at(made) + timedelta(hours=1)):
        assert await issued_credentials.renew_due(validation) == 1
        assert await issued_credentials.renew_due(validation) == 0
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
        await issued_credentials.renew_due(validation)
        left = await credentials.listing(validation, OPERATOR)
        assert made.id not in {each.id for each in left}


async def test_only_who_may_have_the_ca_sign_gets_a_credential(validation: Validation, issuing: CaView) -> None:
    manager = Principal("user", "max", frozenset({Permission.VALIDATION_MANAGE}))
    with pytest.raises(Forbidden):
        await issued_credentials.issue(validation, manager, issuing.full_id, "CN=va")
