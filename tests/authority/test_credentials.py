"""Client credentials."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from sqlalchemy import select
from tests.support.authority import OPERATOR, issuing_wish, make_hierarchy, openssl, root_wish, tenant, verify_chain

from intaglio.audit.models import audit_record
from intaglio.authority import credentials
from intaglio.authority.cas.create import create_issuing, create_root
from intaglio.authority.cas.views import get_chain
from intaglio.authority.certificates import RevocationReason
from intaglio.authority.context import Authority
from intaglio.authority.credentials import CredentialWish, NewCredential
from intaglio.authority.organizations import create_organization
from intaglio.core import clock
from intaglio.core.errors import Forbidden, NotFound, StateConflict
from intaglio.core.principal import Permission, Principal
from intaglio.x509.certificates import read_certificate
from intaglio.x509.pkcs12 import decode_pkcs12


async def _first(authority: Authority, **changes: Any) -> NewCredential:
    made = await create_root(authority, OPERATOR, "demo", root_wish(**changes))
    return made.credentials[0]


async def _revoked(authority: Authority, credential: NewCredential) -> bool:
    snapshot = await authority.snapshot()
    return (snapshot.ca("demo~clients").id, credential.serial) in snapshot.revoked_credentials


@pytest.mark.parametrize(
    ("compatibility", "encryption"), [("modern", "AES-256-CBC"), ("legacy", "pbeWithSHA1And3-KeyTripleDES-CBC")]
)
async def test_a_new_name_gets_a_pkcs12_that_openssl_opens(
    authority: Authority, organization: str, tmp_path: Path, compatibility: str, encryption: str
) -> None:
    made = await _first(authority, credentials={"compatibility": compatibility})
    assert made.pkcs12 is not None
    assert made.password is not None
    assert len(made.password.get_secret_value()) == 40
    (tmp_path / "alice.p12").write_bytes(made.pkcs12)
    (tmp_path / "password").write_text(made.password.get_secret_value())
    legacy = ["-legacy"] if compatibility == "legacy" else []
    options = ["-in", tmp_path / "alice.p12", "-passin", f"file:{tmp_path / 'password'}", *legacy]
    shown = openssl("pkcs12", *options, "-noenc")
    assert "subject=O = demo, CN = alice" in shown
    assert "subject=O = demo, CN = demo gateway clients" in shown
    assert "BEGIN PRIVATE KEY" in shown
    opened = decode_pkcs12(made.pkcs12, made.password.get_secret_value())
    assert (opened.certificate_der, opened.chain_ders) == (made.certificate, made.chain)
    assert encryption in openssl("pkcs12", *options, "-info", "-noout", remarks=True)


async def test_the_certificate_is_a_client_certificate_of_the_client_ca(
    authority: Authority, organization: str, tmp_path: Path
) -> None:
    made = await _first(authority)
    root = (await get_chain(authority, OPERATOR, "demo~clients"))[0]
    assert made.chain == (root,)
    verify_chain(tmp_path, [made.certificate, root])
    text = openssl("x509", "-noout", "-text", "-inform", "der", stdin=made.certificate)
    assert "TLS Web Client Authentication" in text
    assert "TLS Web Server Authentication" not in text
    assert "CA:FALSE" in text


async def test_a_reissued_credential_replaces_the_old_one_at_once(authority: Authority, organization: str) -> None:
    old = await _first(authority)
    assert not await _revoked(authority, old)
    new = await credentials.reissue_credential(authority, OPERATOR, "demo", "ALICE")
    assert await _revoked(authority, old)
    assert not await _revoked(authority, new)
    assert read_certificate(new.certificate).subject == read_certificate(old.certificate).subject
    [listed] = await credentials.list_credentials(authority, OPERATOR, "demo")
    assert (listed.name, listed.serial, listed.state) == ("alice", new.serial, "active")
    assert listed.rights == {"demo~root": "administrator"}


async def test_a_revoked_credential_is_refused_and_the_next_ca_brings_a_new_one(
    authority: Authority, organization: str
) -> None:
    old = await _first(authority)
    await credentials.revoke_credential(authority, OPERATOR, "demo", "alice", reason=RevocationReason.KEY_COMPROMISE)
    assert await _revoked(authority, old)
    [listed] = await credentials.list_credentials(authority, OPERATOR, "demo")
    assert listed.state == "revoked"
    with pytest.raises(StateConflict) as refusal:
        await credentials.revoke_credential(authority, OPERATOR, "demo", "alice")
    assert refusal.value.code == "credential-not-active"
    made = await create_issuing(authority, OPERATOR, "demo", issuing_wish(auditors=[]))
    assert [each.name for each in made.credentials] == ["alice"]


async def test_a_client_may_bring_his_own_key(authority: Authority, organization: str) -> None:
    await _first(authority)
    key = ed25519.Ed25519PrivateKey.generate()
    # Whatever the request says of its subject, the certificate is for the client it is issued to.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody else")])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, None).public_bytes(Encoding.PEM)
    made = await credentials.reissue_credential(authority, OPERATOR, "demo", "alice", CredentialWish(csr=csr))
    assert (made.pkcs12, made.password) == (None, None)
    certificate = x509.load_der_x509_certificate(made.certificate)
    assert certificate.public_key() == key.public_key()
    assert certificate.subject.rfc4514_string() == "CN=alice,O=demo"


async def test_credentials_close_to_their_end_are_marked(authority: Authority, organization: str) -> None:
    with clock.frozen(datetime(2030, 1, 1, tzinfo=UTC)) as advance:
        made = await _first(authority)
        assert made.not_after == datetime(2031, 1, 1, tzinfo=UTC)
        seen = []
        for days in (300, 40, 30):
            advance(timedelta(days=days))
            [listed] = await credentials.list_credentials(authority, OPERATOR, "demo")
            seen.append((listed.state, listed.expires_soon))
    assert seen == [("active", False), ("active", True), ("expired", False)]


async def test_a_chosen_end_is_kept(authority: Authority, organization: str) -> None:
    end = clock.now().replace(microsecond=0) + timedelta(days=7)
    made = await _first(authority, credentials={"not_after": end})
    assert made.not_after == end


async def test_secrets_are_neither_stored_nor_shown(authority: Authority, organization: str) -> None:
    made = await _first(authority)
    assert made.password is not None
    password = made.password.get_secret_value()
    assert password not in repr(made)
    async with authority.database.read() as view:
        rows = await view.all(select(audit_record.c.detail))
    assert all(password not in str(row["detail"]) for row in rows)


async def test_names_match_without_regard_to_case(authority: Authority, organization: str) -> None:
    await _first(authority)
    made = await create_issuing(authority, OPERATOR, "demo", issuing_wish(administrators=["Alice"], auditors=[]))
    assert made.credentials == ()
    assert made.ca.administrators == ("alice",)


async def test_equal_names_in_two_organizations_are_two_clients(authority: Authority, organization: str) -> None:
    await _first(authority)
    await create_organization(authority, OPERATOR, "other")
    other = await create_root(authority, OPERATOR, "other", root_wish())
    assert [each.name for each in other.credentials] == ["alice"]
    assert len((await authority.snapshot()).clients) == 2


async def test_credentials_are_for_members_with_the_permission(authority: Authority, organization: str) -> None:
    await make_hierarchy(authority)
    with pytest.raises(NotFound):
        await credentials.list_credentials(authority, tenant("dave"), "demo")
    viewer = Principal("operator", "viewer", frozenset({Permission.CA_VIEW}))
    assert len(await credentials.list_credentials(authority, viewer, "demo")) == 2
    with pytest.raises(Forbidden):
        await credentials.reissue_credential(authority, viewer, "demo", "alice")
    with pytest.raises(NotFound):
        await credentials.reissue_credential(authority, OPERATOR, "demo", "nobody")
