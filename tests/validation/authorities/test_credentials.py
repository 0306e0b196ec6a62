"""Client credentials for gateways: PKCS #12 files in, TLS contexts out."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12
from pydantic import SecretStr
from tests.support.authority import OPERATOR
from tests.support.foreign import ForeignCa

from intaglio.core import clock
from intaglio.core.errors import IntaglioError, NotFound
from intaglio.validation.authorities import credentials
from intaglio.validation.context import Validation

_PASSWORD = SecretStr("correct horse")


def _file(certificate: x509.Certificate, key: Any, *others: x509.Certificate) -> bytes:
    return pkcs12.serialize_key_and_certificates(b"client", key, certificate, others or None, BestAvailableEncryption(
        _PASSWORD.get_secret_value().encode()
    ))  # fmt: skip


async def test_the_latest_credential_is_used_unless_one_is_named(validation: Validation) -> None:
    ca = ForeignCa()
    made = [await credentials.import_pkcs12(validation, OPERATOR, _file(*ca.end_entity(n)), _PASSWORD) for n in "ab"]
    listed = await credentials.listing(validation, OPERATOR)
    assert [(each.subject, each.latest) for each in listed] == [("CN=b", True), ("CN=a", False)]
    async with validation.database.read() as view:
        latest = await credentials.identity_for(view, validation.keystore, None)
        first = await credentials.identity_for(view, validation.keystore, made[0].id)
    assert x509.load_pem_x509_certificate(latest.chain).subject.rfc4514_string() == "CN=b"
    assert x509.load_pem_x509_certificate(first.chain).subject.rfc4514_string() == "CN=a"
    assert "PRIVATE KEY" not in repr(latest)


async def test_two_client_certificates_in_a_file_are_refused(validation: Validation) -> None:
    ca = ForeignCa()
    certificate, key = ca.end_entity("a")
    with pytest.raises(IntaglioError) as caught:
        await credentials.import_pkcs12(validation, OPERATOR, _file(certificate, key, ca.leaf("b")), _PASSWORD)
    assert caught.value.code == "pkcs12-several-certificates"
    with_its_ca = _file(certificate, key, ca.certificate)
    assert (await credentials.import_pkcs12(validation, OPERATOR, with_its_ca, _PASSWORD)).subject == "CN=a"


async def test_a_wrong_password_and_other_files_are_refused(validation: Validation) -> None:
    data = _file(*ForeignCa().end_entity())
    for given, password in ((data, SecretStr("wrong")), (b"something", _PASSWORD), (data[:100], _PASSWORD)):
        with pytest.raises(IntaglioError) as caught:
            await credentials.import_pkcs12(validation, OPERATOR, given, password)
        assert caught.value.code == "pkcs12-unreadable"


async def test_an_expired_credential_is_not_used(validation: Validation) -> None:
    data = _file(*ForeignCa().end_entity())
    await credentials.import_pkcs12(validation, OPERATOR, data, _PASSWORD)
    with clock.frozen(clock.now() + timedelta(days=100)):
        async with validation.database.read() as view:
            with pytest.raises(IntaglioError) as caught:
                await credentials.identity_for(view, validation.keystore, None)
        assert caught.value.code == "credential-expired"


async def test_a_deleted_credential_is_gone_with_its_key(validation: Validation) -> None:
    made = await credentials.import_pkcs12(validation, OPERATOR, _file(*ForeignCa().end_entity()), _PASSWORD)
    await credentials.remove(validation, OPERATOR, made.id)
    assert not await credentials.listing(validation, OPERATOR)
    async with validation.database.read() as view:
        with pytest.raises(NotFound):
            await validation.keystore.load(view, made.private_key_id)
        with pytest.raises(NotFound) as caught:
            await credentials.identity_for(view, validation.keystore, None)
    assert caught.value.code == "credential-missing"


async def test_the_same_file_is_imported_once(validation: Validation) -> None:
    data = _file(*ForeignCa().end_entity())
    await credentials.import_pkcs12(validation, OPERATOR, data, _PASSWORD)
    with pytest.raises(IntaglioError) as caught:
        await credentials.import_pkcs12(validation, OPERATOR, data, _PASSWORD)
    assert caught.value.code == "already-exists"
