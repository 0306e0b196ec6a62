"""From a security code to a certificate, and everything on the way that must not give one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from sqlalchemy import select, text
from tests.mtls.enrolment.conftest import EMAIL, VISITOR, begin, csr_for, set_live
from tests.support.authority import OPERATOR
from tests.support.identities import make_user

from intaglio.core.errors import IntaglioError, Unavailable
from intaglio.mtls.context import Mtls
from intaglio.mtls.enrolment import enrolling, limits
from intaglio.mtls.enrolment.codes import CreatedCode, NewCode, create_code, get_code, revoke_code
from intaglio.mtls.enrolment.enrolling import submit_request
from intaglio.mtls.enrolment.sessions import Visitor, begin_session, note_download
from intaglio.mtls.identities import models as identity_models
from intaglio.mtls.identities.issuing import issue_identity
from intaglio.mtls.identities.registry import NewIdentity, add_identity
from intaglio.mtls.identities.values import Identity, TrustDomain


async def refused(awaitable: Any) -> str:
    """The code with which something is refused."""
    with pytest.raises(IntaglioError) as caught:
        await awaitable
    return caught.value.code


async def certificates(mtls: Mtls, identity: Identity) -> int:
    """How many certificates an identity has."""
    b = identity_models.binding.c
    async with mtls.database.read() as view:
        return len(await view.all(select(b.id).where(b.identity_id == identity.id)))


async def test_a_code_gives_a_client_certificate_with_the_names_of_the_registry(
    mtls: Mtls, alice: Identity, code: CreatedCode
) -> None:
    opened = await begin(mtls, code)
    issued = await submit_request(mtls, opened.token, csr_for(opened), VISITOR)
    certificate = x509.load_der_x509_certificate(issued.certificate)
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == alice.name
    san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert san.get_values_for_type(x509.RFC822Name) == [EMAIL]
    assert san.get_values_for_type(x509.UniformResourceIdentifier) == [alice.uri]
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    eku = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(eku) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert (issued.not_after - issued.not_before).days == 5
    assert (await get_code(mtls, OPERATOR, code.code.id)).state == "used"


async def test_a_used_code_begins_nothing_more(mtls: Mtls, code: CreatedCode) -> None:
    opened = await begin(mtls, code)
    await submit_request(mtls, opened.token, csr_for(opened), VISITOR)
    assert await refused(begin(mtls, code)) == "code_used"


async def test_the_same_request_again_gets_the_same_certificate(
    mtls: Mtls, alice: Identity, code: CreatedCode
) -> None:
    opened = await begin(mtls, code)
    request = csr_for(opened)
    first = await submit_request(mtls, opened.token, request, VISITOR)
    assert (await submit_request(mtls, opened.token, request, VISITOR)).certificate == first.certificate
    assert await refused(submit_request(mtls, opened.token, csr_for(opened), VISITOR)) == "code_used"
    assert await certificates(mtls, alice) == 1


async def test_two_sessions_of_a_code_give_one_certificate(mtls: Mtls, alice: Identity, code: CreatedCode) -> None:
    opened = [await begin(mtls, code) for _ in range(4)]
    answers = await asyncio.gather(
        *(submit_request(mtls, each.token, csr_for(each), VISITOR) for each in opened), return_exceptions=True
    )
    codes = sorted(answer.code for answer in answers if isinstance(answer, IntaglioError))
    assert len(codes) == 3
    assert set(codes) <= {"code_used", "enrolment-in-progress"}
    assert await certificates(mtls, alice) == 1


async def test_a_code_for_two_certificates_gives_two(mtls: Mtls, alice: Identity) -> None:
    code = await create_code(mtls, OPERATOR, NewCode(alice, max_uses=2))
    for _ in range(2):
        opened = await begin(mtls, code)
        await submit_request(mtls, opened.token, csr_for(opened), VISITOR)
    assert await refused(begin(mtls, code)) == "code_used"
    assert await certificates(mtls, alice) == 2


async def test_a_failing_ca_leaves_session_and_code_good(
    mtls: Mtls, alice: Identity, code: CreatedCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any, **__: Any) -> None:
        raise Unavailable("The key store does not answer.")

    opened = await begin(mtls, code)
    request = csr_for(opened)
    with monkeypatch.context() as patch:
        patch.setattr(enrolling, "issue_identity", away)
        assert await refused(submit_request(mtls, opened.token, request, VISITOR)) == "ca_unavailable"
    assert (await get_code(mtls, OPERATOR, code.code.id)).state == "created"
    await submit_request(mtls, opened.token, request, VISITOR)
    assert await certificates(mtls, alice) == 1


async def test_another_session_takes_over_after_a_failing_ca(
    mtls: Mtls, alice: Identity, code: CreatedCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any, **__: Any) -> None:
        raise Unavailable("The key store does not answer.")

    first = await begin(mtls, code)
    with monkeypatch.context() as patch:
        patch.setattr(enrolling, "issue_identity", away)
        await refused(submit_request(mtls, first.token, csr_for(first), VISITOR))
    second = await begin(mtls, code)
    await submit_request(mtls, second.token, csr_for(second), VISITOR)
    assert await refused(submit_request(mtls, first.token, csr_for(first), VISITOR)) == "session-unknown"
    assert await certificates(mtls, alice) == 1


async def test_death_between_issuing_and_concluding_gives_no_second_certificate(
    mtls: Mtls, alice: Identity, code: CreatedCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def die(*_: Any, **__: Any) -> None:
        raise asyncio.CancelledError

    opened, other = await begin(mtls, code), await begin(mtls, code)
    request = csr_for(opened)
    with monkeypatch.context() as patch:
        patch.setattr(enrolling, "_conclude", die)
        with pytest.raises(asyncio.CancelledError):
            await submit_request(mtls, opened.token, request, VISITOR)
    assert (await get_code(mtls, OPERATOR, code.code.id)).state == "created"
    assert await refused(submit_request(mtls, other.token, csr_for(other), VISITOR)) == "code_used"
    assert (await get_code(mtls, OPERATOR, code.code.id)).state == "used"
    again = await submit_request(mtls, opened.token, request, VISITOR)
    assert x509.load_der_x509_certificate(again.certificate)
    assert await certificates(mtls, alice) == 1


async def test_a_process_that_slept_while_another_session_took_over_hands_nothing_out(
    mtls: Mtls, alice: Identity, code: CreatedCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeper, other = await begin(mtls, code), await begin(mtls, code)

    async def slow(*arguments: Any, **named: Any) -> Any:
        monkeypatch.setattr(enrolling, "issue_identity", issue_identity)
        async with mtls.database.transaction() as tx:
            await tx.execute(text("UPDATE mtls_session SET working_until = now() - interval '1 second'"))
        await submit_request(mtls, other.token, csr_for(other), VISITOR)
        return await issue_identity(*arguments, **named)

    monkeypatch.setattr(enrolling, "issue_identity", slow)
    assert await refused(submit_request(mtls, sleeper.token, csr_for(sleeper), VISITOR)) == "session-unknown"
    async with mtls.database.read() as view:
        query = text("SELECT status FROM certificate WHERE profile = 'identity-user' ORDER BY issued_at, id")
        assert [row["status"] for row in await view.all(query)] == ["valid", "revoked"]


async def test_a_policy_that_changes_between_two_attempts_gives_no_second_certificate(
    mtls: Mtls, alice: Identity, code: CreatedCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def die(*_: Any, **__: Any) -> None:
        raise asyncio.CancelledError

    opened, other = await begin(mtls, code), await begin(mtls, code)
    request = csr_for(opened)
    with monkeypatch.context() as patch:
        patch.setattr(enrolling, "_conclude", die)
        with pytest.raises(asyncio.CancelledError):
            await submit_request(mtls, opened.token, request, VISITOR)
    await set_live(mtls, "enrolment", validity_days=2)
    with pytest.raises(IntaglioError):
        await submit_request(mtls, opened.token, request, VISITOR)
    assert await refused(submit_request(mtls, other.token, csr_for(other), VISITOR)) == "code_used"
    assert await certificates(mtls, alice) == 1


async def test_unknown_and_wrong_codes_look_the_same(mtls: Mtls, code: CreatedCode) -> None:
    assert code.text is not None
    wrong = code.text[:-1] + ("0" if code.text[-1] != "0" else "1")
    unknown = "00000" + wrong[5:] if code.code.handle != "00000" else "11111" + wrong[5:]
    answers = []
    for text_ in (wrong, unknown, "nonsense", ""):
        with pytest.raises(IntaglioError) as caught:
            await begin_session(mtls, text_, EMAIL, VISITOR)
        answers.append((caught.value.code, caught.value.status, caught.value.detail, caught.value.remedy))
    assert set(answers) == {answers[0]}
    assert answers[0][:2] == ("code_invalid", 403)


async def test_a_code_is_locked_after_five_failures_whether_it_exists_or_not(mtls: Mtls, code: CreatedCode) -> None:
    assert code.text is not None
    wrong = code.text[:-1] + ("0" if code.text[-1] != "0" else "1")
    unknown = ("00000" if code.code.handle != "00000" else "11111") + wrong[5:]
    for guess in (wrong, unknown):
        seen = [await refused(begin_session(mtls, guess, EMAIL, VISITOR)) for _ in range(7)]
        assert seen == ["code_invalid"] * 5 + ["code_locked"] * 2
    assert await refused(begin(mtls, code)) == "code_locked"
    assert (await get_code(mtls, OPERATOR, code.code.id)).state == "locked"


async def test_failures_at_the_same_time_are_all_counted(mtls: Mtls, code: CreatedCode) -> None:
    assert code.text is not None
    wrong = code.text[:-1] + ("0" if code.text[-1] != "0" else "1")
    await asyncio.gather(*(refused(begin_session(mtls, wrong, EMAIL, VISITOR)) for _ in range(6)))
    assert await refused(begin(mtls, code)) == "code_locked"


async def test_codes_are_read_however_people_type_them(mtls: Mtls, code: CreatedCode) -> None:
    assert code.text is not None
    typed = f"  {code.text.lower().replace('-', ' ').replace('0', 'o').replace('1', 'l')} "
    opened = await begin_session(mtls, typed, " Alice@Example.com ", VISITOR)
    assert opened.email == EMAIL


async def test_another_address_is_refused_and_counted(mtls: Mtls, code: CreatedCode) -> None:
    seen = [await refused(begin(mtls, code, "mallory@example.com")) for _ in range(6)]
    assert seen == ["email_not_allowed"] * 5 + ["code_locked"]


async def test_revoked_and_expired_codes_say_so_to_who_has_them(mtls: Mtls, alice: Identity) -> None:
    revoked = await create_code(mtls, OPERATOR, NewCode(alice))
    await revoke_code(mtls, OPERATOR, revoked.code.id)
    assert await refused(begin(mtls, revoked)) == "code_revoked"
    expired = await create_code(mtls, OPERATOR, NewCode(alice))
    async with mtls.database.transaction() as tx:
        await tx.execute(text("UPDATE mtls_code SET expires_at = now() - interval '1 second'"))
    assert await refused(begin(mtls, expired)) == "code_expired"
    assert (await get_code(mtls, OPERATOR, expired.code.id)).state == "expired"


async def test_an_address_is_slowed_down_over_all_processes(mtls: Mtls, code: CreatedCode) -> None:
    await set_live(mtls, "enrolment", requests_per_minute=3)
    for _ in range(3):
        await begin(mtls, code)
    with pytest.raises(IntaglioError) as caught:
        await begin(mtls, code)
    assert caught.value.code == "rate_limited"
    assert caught.value.status == 429
    assert 1 <= (caught.value.retry_after or 0) <= 60
    await begin(mtls, code, visitor=Visitor("192.0.2.8"))


def test_an_ipv6_host_counts_with_its_prefix() -> None:
    assert limits.network_of("2001:db8:1:2:3::4") == limits.network_of("2001:db8:1:2:ffff::1") == "2001:db8:1:2::/64"
    assert limits.network_of("::ffff:192.0.2.1") == limits.network_of("192.0.2.1") == "192.0.2.1"


_EC = ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"identity": "u-somebody-else"}, "csr_mismatch"),
        ({"email": "mallory@example.com"}, "csr_mismatch"),
        ({"email": None}, "csr_mismatch"),
        ({"nonce": None}, "csr_mismatch"),
        ({"nonce": "another nonce"}, "csr_mismatch"),
        ({"more": (x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "admins"),)}, "csr_mismatch"),
        ({"key": ec.generate_private_key(ec.SECP384R1())}, "csr_key_type"),
        ({"key": rsa.generate_private_key(65537, 2048)}, "csr_key_type"),
    ],
)
async def test_a_request_must_be_that_of_the_session(
    mtls: Mtls, code: CreatedCode, changes: dict[str, Any], expected: str
) -> None:
    opened = await begin(mtls, code)
    assert await refused(submit_request(mtls, opened.token, csr_for(opened, **changes), VISITOR)) == expected
    await submit_request(mtls, opened.token, csr_for(opened), VISITOR)  # nothing is lost by it


async def test_a_request_of_another_session_is_of_no_use(mtls: Mtls, alice: Identity) -> None:
    mine = await begin(mtls, await create_code(mtls, OPERATOR, NewCode(alice)))
    seen = await begin(mtls, await create_code(mtls, OPERATOR, NewCode(alice)))
    assert await refused(submit_request(mtls, mine.token, csr_for(seen), VISITOR)) == "csr_mismatch"


async def test_forged_and_malformed_requests_are_told_apart(mtls: Mtls, code: CreatedCode) -> None:
    opened = await begin(mtls, code)
    der = x509.load_pem_x509_csr(csr_for(opened)).public_bytes(x509_encoding())
    forged = der[:-4] + bytes(octet ^ 0x55 for octet in der[-4:])
    assert await refused(submit_request(mtls, opened.token, forged, VISITOR)) in ("csr_signature", "csr_malformed")
    swapped = _with_key_of_another(der)
    assert await refused(submit_request(mtls, opened.token, swapped, VISITOR)) == "csr_signature"
    assert await refused(submit_request(mtls, opened.token, b"not a request", VISITOR)) == "csr_malformed"
    assert await refused(submit_request(mtls, "no-session", csr_for(opened), VISITOR)) == "session-unknown"


async def test_other_keys_are_certified_where_the_policy_says_so(mtls: Mtls, code: CreatedCode) -> None:
    await set_live(mtls, "enrolment", key_algorithms=["EC P-384", "RSA 3072"])
    opened = await begin(mtls, code)
    assert await refused(submit_request(mtls, opened.token, csr_for(opened), VISITOR)) == "csr_key_type"
    await submit_request(mtls, opened.token, csr_for(opened, key=ec.generate_private_key(ec.SECP384R1())), VISITOR)


async def test_a_key_of_somebody_else_is_refused(mtls: Mtls, code: CreatedCode) -> None:
    bob = await make_user(mtls, "bob@example.com")
    key = ec.generate_private_key(ec.SECP256R1())
    first = await begin(mtls, code)
    await submit_request(mtls, first.token, csr_for(first, key=key), VISITOR)
    second = await begin(mtls, await create_code(mtls, OPERATOR, NewCode(bob)), "bob@example.com")
    assert await refused(submit_request(mtls, second.token, csr_for(second, key=key), VISITOR)) == "key_reused"
    await submit_request(mtls, second.token, csr_for(second), VISITOR)


async def test_a_session_ends_after_its_time(mtls: Mtls, code: CreatedCode) -> None:
    opened = await begin(mtls, code)
    async with mtls.database.transaction() as tx:
        await tx.execute(text("UPDATE mtls_session SET expires_at = now() - interval '1 second'"))
    assert await refused(submit_request(mtls, opened.token, csr_for(opened), VISITOR)) == "session-unknown"
    again = await begin(mtls, code)
    await submit_request(mtls, again.token, csr_for(again), VISITOR)


async def test_the_life_of_a_certificate_follows_code_and_ceiling(
    mtls: Mtls, alice: Identity, trust_domain: TrustDomain
) -> None:
    one_day = await create_code(mtls, OPERATOR, NewCode(alice, validity_days=1))
    opened = await begin(mtls, one_day)
    issued = await submit_request(mtls, opened.token, csr_for(opened), VISITOR)
    assert (issued.not_after - issued.not_before).days == 1
    assert await refused(create_code(mtls, OPERATOR, NewCode(alice, validity_days=500))) == "lifetime-above-ceiling"


async def test_a_user_takes_the_allowed_address_he_enters(mtls: Mtls, alice: Identity) -> None:
    code = await create_code(mtls, OPERATOR, NewCode(alice, emails=[EMAIL, "alice@corp.example"]))
    opened = await begin(mtls, code, "alice@corp.example")
    issued = await submit_request(mtls, opened.token, csr_for(opened), VISITOR)
    certificate = x509.load_der_x509_certificate(issued.certificate)
    san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert san.get_values_for_type(x509.RFC822Name) == ["alice@corp.example"]


async def test_nobody_enrols_under_the_address_of_somebody_else(mtls: Mtls, alice: Identity) -> None:
    code = await create_code(mtls, OPERATOR, NewCode(alice, emails=[EMAIL, "a.smith@example.com"]))
    early = await begin(mtls, code, "a.smith@example.com")  # while the address was nobody's
    await make_user(mtls, "A.Smith@example.com")
    assert await refused(submit_request(mtls, early.token, csr_for(early), VISITOR)) == "email-taken"
    assert await refused(begin(mtls, code, "A.Smith@example.com")) == "email-taken"
    opened = await begin(mtls, code)  # the code is still good for her own
    issued = await submit_request(mtls, opened.token, csr_for(opened), VISITOR)
    assert issued.identity.email == EMAIL


async def test_a_device_enrols_with_the_code_of_its_person(mtls: Mtls, trust_domain: TrustDomain) -> None:
    device = await add_identity(mtls, OPERATOR, NewIdentity(trust_domain.name, "device", "laptop-7"))
    assert await refused(create_code(mtls, OPERATOR, NewCode(device))) == "invalid-input"  # for nobody
    code = await create_code(mtls, OPERATOR, NewCode(device, emails=[EMAIL], validity_days=30))
    opened = await begin(mtls, code)
    issued = await submit_request(mtls, opened.token, csr_for(opened), VISITOR)
    certificate = x509.load_der_x509_certificate(issued.certificate)
    san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert san.get_values_for_type(x509.RFC822Name) == []
    assert (issued.not_after - issued.not_before).days == 30


async def test_a_download_is_noted_once(mtls: Mtls, code: CreatedCode) -> None:
    opened = await begin(mtls, code)
    assert await refused(note_download(mtls, opened.token, VISITOR)) == "session-unknown"
    await submit_request(mtls, opened.token, csr_for(opened), VISITOR)
    await note_download(mtls, opened.token, VISITOR)
    await note_download(mtls, opened.token, VISITOR)
    assert (await audited(mtls)).count("enrolment.download") == 1


async def test_every_step_is_in_the_audit_trail(mtls: Mtls, code: CreatedCode) -> None:
    opened = await begin(mtls, code)
    await submit_request(mtls, opened.token, csr_for(opened), VISITOR)
    await note_download(mtls, opened.token, VISITOR)
    found = await audited(mtls)
    steps = ["security-code.create", "enrolment.begin", "enrolment.request", "identity.issue", "enrolment.issue",
             "enrolment.download"]  # fmt: skip
    assert [action for action in found if action in steps] == steps


async def test_no_code_is_in_the_database(mtls: Mtls, code: CreatedCode) -> None:
    assert code.text is not None
    secret = code.text.replace("-", "")[5:]
    async with mtls.database.read() as view:
        tables = [row["tablename"] for row in await view.all(text("SELECT tablename FROM pg_tables "
                                                                  "WHERE schemaname = 'public'"))]  # fmt: skip
        for table in tables:
            rows = await view.all(text(f'SELECT t::text AS row FROM "{table}" t'))
            for row in rows:
                assert code.text not in row["row"]
                assert secret not in row["row"]
                assert secret.encode().hex() not in row["row"]


async def test_an_identity_that_is_gone_enrols_no_more(mtls: Mtls, alice: Identity, code: CreatedCode) -> None:
    opened = await begin(mtls, code)
    async with mtls.database.transaction() as tx:
        await tx.execute(text("UPDATE mtls_identity SET state = 'suspended'"))
    assert await refused(submit_request(mtls, opened.token, csr_for(opened), VISITOR)) == "identity-suspended"
    assert await refused(begin(mtls, code)) == "identity-suspended"


async def audited(mtls: Mtls) -> list[str]:
    """The actions on record, in order."""
    async with mtls.database.read() as view:
        return [row["action"] for row in await view.all(text("SELECT action FROM audit_record ORDER BY seq"))]


def x509_encoding() -> Any:
    from cryptography.hazmat.primitives.serialization import Encoding

    return Encoding.DER


def _with_key_of_another(der: bytes) -> bytes:
    """The same request with another public key of the same length in it."""
    from cryptography.hazmat.primitives.serialization import PublicFormat

    mine = x509.load_der_x509_csr(der).public_key().public_bytes(x509_encoding(), PublicFormat.SubjectPublicKeyInfo)
    theirs = _EC.public_key().public_bytes(x509_encoding(), PublicFormat.SubjectPublicKeyInfo)
    return der.replace(mine, theirs)
