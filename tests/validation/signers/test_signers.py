"""Signers of status authorities: their requests, their certificates, and how one takes the place of another."""

from __future__ import annotations

from datetime import timedelta

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from sqlalchemy import func, select
from structlog.testing import CapturingLogger
from tests.support.authority import OPERATOR, openssl
from tests.support.eventually import eventually
from tests.support.foreign import ForeignCa, Known, learn
from tests.support.status_authorities import Establish
from tests.validation.ocsp.test_everybody import about, post

from intaglio.audit.models import audit_record
from intaglio.authority.certificates import RevocationReason
from intaglio.authority.context import Authority
from intaglio.authority.directory import CaView
from intaglio.authority.revocation import change_status, revocation
from intaglio.core import clock
from intaglio.core.errors import Forbidden, IntaglioError, NotFound, Refused, StateConflict
from intaglio.core.principal import SYSTEM, Permission, Principal
from intaglio.db.engine import Database
from intaglio.keystore.models import private_key
from intaglio.validation.authorities import service as authorities
from intaglio.validation.authorities.values import AuthoritySpec
from intaglio.validation.context import Validation
from intaglio.validation.signers import check, service, upkeep
from intaglio.validation.signers.values import NewSigner, StoredSigner
from intaglio.x509.lint import lint_certificate


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


async def _delegated(validation: Validation, ca: ForeignCa, name: str) -> StoredSigner:
    made = (await service.create(validation, OPERATOR, NewSigner(kind="delegated", authority=name))).signer
    assert made.request is not None
    certificate = ca.certify_signer(made.request)
    return (await service.import_certificate(validation, OPERATOR, made.id, _der(certificate))).signer


async def _who_signs(client: httpx.AsyncClient, ca: ForeignCa) -> bytes:
    return _der((await post(client, about(ca, 7))).certificates[0])


async def _signs(client: httpx.AsyncClient, ca: ForeignCa, certificate: bytes) -> bool:
    return await _who_signs(client, ca) == certificate


async def test_a_request_asks_for_what_an_ocsp_signer_needs(establish: Establish, validation: Validation) -> None:
    await establish(ForeignCa(), "foreign", "basic", signer=False)
    wish = NewSigner(authority="foreign", subject="CN=Answers,O=Example")
    made = (await service.create(validation, OPERATOR, wish)).signer
    assert made.request is not None
    assert made.state(clock.now()) == "awaiting-certificate"
    said = openssl("req", "-inform", "DER", "-noout", "-text", "-verify", stdin=made.request, remarks=True)
    assert "verify OK" in said
    request = x509.load_der_x509_csr(made.request)
    assert request.subject.rfc4514_string() == "CN=Answers,O=Example"
    usage = request.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.OCSP_SIGNING]
    assert request.extensions.get_extension_for_class(x509.OCSPNoCheck)


async def test_the_subject_is_the_keys_id_unless_chosen_and_can_be_changed_over_the_same_key(
    establish: Establish, validation: Validation
) -> None:
    await establish(ForeignCa(), "foreign", "basic", signer=False)
    made = (await service.create(validation, OPERATOR, NewSigner(authority="foreign"))).signer
    assert made.request is not None
    before = x509.load_der_x509_csr(made.request)
    assert before.subject.rfc4514_string() == f"CN={made.key_id}"
    changed = await service.remake_request(validation, OPERATOR, made.id, "cn=Other,o=Example")
    assert changed.request is not None
    after = x509.load_der_x509_csr(changed.request)
    assert after.subject.rfc4514_string() == "CN=Other,O=Example"
    assert after.public_key() == before.public_key()


async def test_until_the_certificate_is_there_the_answer_is_try_later(
    database: Database, client: httpx.AsyncClient, establish: Establish, validation: Validation
) -> None:
    ca = ForeignCa()
    await learn(database, await establish(ca, "foreign", "basic", signer=False), {7: Known()})
    assert (await post(client, about(ca, 7))).response_status.name == "TRY_LATER"
    await _delegated(validation, ca, "foreign")
    assert (await post(client, about(ca, 7))).response_status.name == "SUCCESSFUL"


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("another key", "signer-certificate-wrong-key"),
        ("not for OCSP", "signer-certificate-not-for-ocsp"),
        ("another CA", "signer-certificate-wrong-issuer"),
        ("over", "signer-certificate-expired"),
    ],
)
async def test_a_certificate_that_clients_would_not_believe_is_refused(
    establish: Establish, validation: Validation, what: str, code: str
) -> None:
    ca = ForeignCa()
    await establish(ca, "foreign", "basic", signer=False)
    made = (await service.create(validation, OPERATOR, NewSigner(authority="foreign"))).signer
    assert made.request is not None
    certificates = {
        "another key": lambda request: ca.leaf(),
        "not for OCSP": lambda request: ca.certify_signer(request, ocsp_signing=False),
        "another CA": ForeignCa("Another").certify_signer,
        "over": lambda request: ca.certify_signer(request, days=-0.001),
    }
    certificate = certificates[what](made.request)
    with pytest.raises(Refused) as refused:
        await service.import_certificate(validation, OPERATOR, made.id, _der(certificate))
    assert refused.value.code == code
    assert refused.value.remedy


async def test_a_certificate_without_no_check_is_taken_with_a_warning(
    establish: Establish, validation: Validation
) -> None:
    ca = ForeignCa()
    await establish(ca, "foreign", "basic", signer=False)
    made = (await service.create(validation, OPERATOR, NewSigner(authority="foreign"))).signer
    assert made.request is not None
    certificate = ca.certify_signer(made.request, no_check=False)
    saved = await service.import_certificate(validation, OPERATOR, made.id, _der(certificate))
    assert any("nocheck" in warning for warning in saved.warnings)
    assert saved.signer.state(clock.now()) == "current"


async def test_the_old_signer_signs_until_its_successor_has_a_certificate(
    database: Database, client: httpx.AsyncClient, establish: Establish, validation: Validation
) -> None:
    ca = ForeignCa()
    await learn(database, await establish(ca, "foreign", "basic"), {7: Known()})
    (old,) = await service.listing(validation, OPERATOR)
    assert old.certificate is not None
    successor = (await service.renew(validation, OPERATOR, old.id)).signer
    assert successor.key_id != old.key_id
    assert (await service.renew(validation, OPERATOR, old.id)).signer.id == successor.id
    assert await _who_signs(client, ca) == old.certificate.der
    assert successor.request is not None
    certificate = ca.certify_signer(successor.request)
    await service.import_certificate(validation, OPERATOR, successor.id, _der(certificate))
    await eventually(lambda: _signs(client, ca, _der(certificate)))
    states = {each.id: each.state(clock.now()) for each in await service.listing(validation, OPERATOR)}
    assert states == {old.id: "replaced", successor.id: "current"}
    await service.delete_signer(validation, OPERATOR, successor.id)
    former = old.certificate.der
    await eventually(lambda: _signs(client, ca, former))


async def test_our_ca_certifies_and_renews_a_signer_by_itself(
    authority: Authority, issuing: CaView, database: Database, client: httpx.AsyncClient, establish: Establish,
    validation: Validation,
) -> None:  # fmt: skip
    ca = ForeignCa()
    await learn(database, await establish(ca, "foreign", "basic", signer=False), {7: Known()})
    wish = NewSigner(kind="automatic", authority="foreign", ca=issuing.full_id)
    made = (await service.create(validation, OPERATOR, wish)).signer
    assert made.certificate is not None
    assert made.renew_at is not None
    assert lint_certificate(made.certificate.der) == []
    assert made.certificate.verify_signed_by(issuing.key.spki)
    assert await _who_signs(client, ca) == made.certificate.der
    assert await upkeep.upkeep(validation) == 0
    with clock.frozen(made.renew_at + timedelta(seconds=1)):
        assert await upkeep.upkeep(validation) == 1
        assert await upkeep.upkeep(validation) == 0
        found = {each.state(clock.now()): each for each in await service.listing(validation, OPERATOR)}
    assert set(found) == {"current", "replaced"}
    assert found["replaced"].id == made.id
    renewed = found["current"].certificate
    assert renewed is not None
    assert renewed.subject == made.certificate.subject
    assert renewed.spki != made.certificate.spki
    with clock.frozen(made.certificate.not_after + timedelta(days=2)):
        await upkeep.upkeep(validation)
    async with database.read() as view:
        destroyed = await view.scalar(select(private_key.c.destroyed_at).where(private_key.c.id == made.key_id))
    assert destroyed is not None


async def test_the_end_of_a_signer_that_somebody_renews_is_warned_of_once(
    issuing: CaView, establish: Establish, validation: Validation, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, ca = CapturingLogger(), ForeignCa()
    monkeypatch.setattr(upkeep, "log", log)
    await establish(ca, "foreign", "basic", signer=False)
    signer = await _delegated(validation, ca, "foreign")
    await service.create(validation, OPERATOR, NewSigner(kind="automatic", authority="foreign", ca=issuing.full_id))
    assert signer.certificate is not None
    for days, warnings in ((15, 0), (13, 1), (12, 1)):
        with clock.frozen(signer.certificate.not_after - timedelta(days=days)):
            await upkeep.upkeep(validation)
        assert [call.method_name for call in log.calls] == ["warning"] * warnings
    (said,) = log.calls
    assert "ends soon" in said.args[0]
    assert said.kwargs["signer"] == "foreign"


async def test_an_ocsp_signers_certificate_of_ours_has_no_check_and_nothing_that_leads_to_more_questions(
    issuing: CaView, establish: Establish, validation: Validation
) -> None:
    await establish(ForeignCa(), "foreign", "basic", signer=False)
    wish = NewSigner(kind="automatic", authority="foreign", ca=issuing.full_id)
    made = (await service.create(validation, OPERATOR, wish)).signer
    assert made.certificate is not None
    said = openssl("x509", "-noout", "-text", stdin=made.certificate.pem.encode())
    assert "OCSP No Check" in said
    assert "OCSP Signing" in said
    for absent in ("CRL Distribution Points", "Basic Constraints", "OCSP - URI"):
        assert absent not in said


async def test_every_step_is_audited_and_needs_its_permission(
    database: Database, establish: Establish, validation: Validation
) -> None:
    ca = ForeignCa()
    await establish(ca, "foreign", "basic", signer=False)
    viewer = Principal("user", "viewer", frozenset({Permission.VALIDATION_VIEW}))
    with pytest.raises(Forbidden):
        await service.create(validation, viewer, NewSigner(authority="foreign"))
    made = await _delegated(validation, ca, "foreign")
    for attempt in (
        service.renew(validation, viewer, made.id),
        service.import_certificate(validation, viewer, made.id, made.certificate.der if made.certificate else b""),
        service.delete_signer(validation, viewer, made.id),
        service.listing(validation, Principal("user", "nobody")),
    ):
        with pytest.raises(Forbidden):
            await attempt
    assert [each.id for each in await service.listing(validation, viewer)] == [made.id]
    await service.delete_signer(validation, OPERATOR, made.id)
    with pytest.raises(NotFound):
        await service.get(validation, OPERATOR, made.id)
    async with database.read() as view:
        actions = {
            row["action"]
            for row in await view.all(select(audit_record.c.action).where(audit_record.c.action.like("ocsp-signer.%")))
        }
        keys = await view.scalar(
            select(func.count()).where(private_key.c.label == "ocsp:foreign", private_key.c.destroyed_at.is_(None))
        )
    assert actions == {"ocsp-signer.create", "ocsp-signer.certify", "ocsp-signer.delete"}
    assert keys == 0


async def test_who_may_not_operate_a_ca_gets_no_signer_from_it(
    issuing: CaView, establish: Establish, validation: Validation
) -> None:
    await establish(ForeignCa(), "foreign", "basic", signer=False)
    native = AuthoritySpec(name="ours", source="native", ca=issuing.full_id, profile="basic")
    await authorities.create(validation, OPERATOR, native)
    runs_validation = frozenset({Permission.VALIDATION_VIEW, Permission.VALIDATION_MANAGE})
    wishes = (
        NewSigner(kind="automatic", authority="foreign", ca=issuing.full_id),
        NewSigner(kind="shared", label="common", ca=issuing.full_id),
        NewSigner(kind="ca", authority="ours"),
    )
    for principal, refusal in (
        (Principal("user", "vera", runs_validation), Forbidden),
        (Principal("user", "vera", runs_validation | {Permission.CA_OPERATE}), NotFound),  # of another organization
    ):
        for wish in wishes:
            with pytest.raises(refusal):
                await service.create(validation, principal, wish)
    assert await service.listing(validation, OPERATOR) == []


async def test_a_signer_whose_certificate_was_revoked_signs_nothing_more_and_is_replaced(
    authority: Authority, issuing: CaView, database: Database, client: httpx.AsyncClient, establish: Establish,
    validation: Validation,
) -> None:  # fmt: skip
    ca = ForeignCa()
    await learn(database, await establish(ca, "foreign", "basic", signer=False), {7: Known()})
    wish = NewSigner(kind="automatic", authority="foreign", ca=issuing.full_id)
    made = (await service.create(validation, OPERATOR, wish)).signer
    assert made.certificate is not None
    assert await _who_signs(client, ca) == made.certificate.der
    reason = revocation(RevocationReason.KEY_COMPROMISE)
    await change_status(authority, SYSTEM, issuing, made.certificate.serial, reason)

    async def silent() -> bool:
        return (await post(client, about(ca, 7))).response_status.name == "TRY_LATER"

    await eventually(silent)
    assert await upkeep.upkeep(validation) == 1
    current = next(each for each in await service.listing(validation, OPERATOR) if each.current)
    assert current.certificate is not None
    assert current.certificate.spki != made.certificate.spki
    fresh = current.certificate.der
    await eventually(lambda: _signs(client, ca, fresh))
    assert await upkeep.upkeep(validation) == 0


async def test_the_check_tells_who_signs_and_who_does_not(
    issuing: CaView, establish: Establish, validation: Validation
) -> None:
    await establish(ForeignCa("Good"), "good", "basic")
    await establish(ForeignCa("Bad"), "bad", "basic", signer=False)
    await establish(ForeignCa("Odd"), "odd", "basic", signer=False)
    await service.create(
        validation, OPERATOR, NewSigner(kind="automatic", authority="odd", ca=issuing.full_id, key_algorithm="RSA-3072")
    )
    found = {each.authority: each for each in await check.check(validation, OPERATOR)}
    assert (found["good"].problem, found["good"].delegated) == (None, True)
    assert found["bad"].problem is not None
    assert "no OCSP signer" in found["bad"].problem
    assert (found["odd"].problem, found["odd"].delegated) == (None, False)


async def test_the_key_of_a_ca_can_only_sign_for_our_own_authorities(
    establish: Establish, validation: Validation
) -> None:
    await establish(ForeignCa(), "foreign", "basic", signer=False)
    with pytest.raises(IntaglioError) as refused:
        await service.create(validation, OPERATOR, NewSigner(kind="ca", authority="foreign"))
    assert refused.value.code == "ocsp-signer-not-our-ca"


async def test_no_certificate_is_imported_where_ours_renews_it(
    issuing: CaView, establish: Establish, validation: Validation
) -> None:
    ca = ForeignCa()
    await establish(ca, "foreign", "basic", signer=False)
    wish = NewSigner(kind="automatic", authority="foreign", ca=issuing.full_id)
    made = (await service.create(validation, OPERATOR, wish)).signer
    assert made.request is not None
    with pytest.raises(StateConflict):
        await service.import_certificate(validation, OPERATOR, made.id, _der(ca.certify_signer(made.request)))
