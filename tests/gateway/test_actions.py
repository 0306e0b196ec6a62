"""What can be done to certificates and subjects."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import timedelta
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from tests.gateway.support import CA_PATH, Answer, Client, b64, csr, wish

from intaglio.authority.certificates import RevocationReason
from intaglio.authority.context import Authority
from intaglio.authority.crls import issue_crl
from intaglio.core import clock
from intaglio.core.principal import SYSTEM

REASONS = [r.text for r in RevocationReason if r.text not in ("removeFromCRL", "certificateHold")]


async def issued(client: Client, subject: str = "CN=www.example") -> str:
    answer = await client.enroll(wish(optionalCertificateRequestDetails={"subjectDn": subject}))
    return str(answer.enrolled["serialNumber"])


async def status_of(client: Client, serial: str) -> str:
    return str((await client.certificate_of(serial)).json["certificate"]["status"])


async def crl_of(client: Client) -> x509.CertificateRevocationList:
    answer = await client.get(f"{CA_PATH}/demo~issuing/crl")
    assert answer.headers["content-type"] == "application/pkix-crl"
    return x509.load_der_x509_crl(answer.body)


def listed(crl: x509.CertificateRevocationList, serial: str) -> x509.RevokedCertificate | None:
    return crl.get_revoked_certificate_by_serial_number(int(serial, 16))


def number(crl: x509.CertificateRevocationList) -> int:
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


@pytest.mark.parametrize("reason", REASONS)
async def test_revoking_puts_the_reason_on_the_crl(integrator: Client, reason: str) -> None:
    serial = await issued(integrator)
    answer = await integrator.act(serial, type="RevokeAction", reason=reason, issueCrl=True, comment="test")
    action = answer.json["action"]
    assert (action["type"], action["status"], action["reason"]) == ("RevokeAction", "COMPLETED", reason)
    assert await status_of(integrator, serial) == "revoked"
    entry = listed(await crl_of(integrator), serial)
    assert entry is not None
    if reason == "unspecified":
        assert len(entry.extensions) == 0
    else:
        shown = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
        assert shown.value.lower() == reason.lower()


@pytest.mark.parametrize("spelling", ["caCompromise", "cACompromise", "CACOMPROMISE", "ca_compromise"])
async def test_reasons_are_understood_however_they_are_spelled(integrator: Client, spelling: str) -> None:
    answer = await integrator.act(await issued(integrator), type="RevokeAction", reason=spelling)
    assert answer.json["action"]["reason"] == "cACompromise"


@pytest.mark.parametrize("reason", ["removeFromCRL", "boredom", "7"])
async def test_what_is_no_reason_to_revoke_is_refused(integrator: Client, reason: str) -> None:
    serial = await issued(integrator)
    answer = await integrator.act(serial, type="RevokeAction", reason=reason)
    assert (answer.status, answer.code) == (400, "cagw-4001")
    assert await status_of(integrator, serial) == "normal"


async def test_the_compromise_date_becomes_the_invalidity_date(integrator: Client) -> None:
    serial = await issued(integrator)
    wanted = {"reason": "keyCompromise", "compromiseDate": "2020-04-30T19:07:07.826511Z", "issueCrl": "true"}
    answer = await integrator.act(serial, type="RevokeAction", **wanted)
    assert answer.json["action"]["compromiseDate"] == "2020-04-30T19:07:07Z"
    entry = listed(await crl_of(integrator), serial)
    assert entry is not None
    moment = entry.extensions.get_extension_for_class(x509.InvalidityDate).value.invalidity_date_utc
    assert clock.rfc3339(moment) == "2020-04-30T19:07:07Z"
    info = (await integrator.certificate_of(serial)).json["certificate"]["revocationInfo"]
    assert (info["reason"], info["compromiseDate"]) == ("keyCompromise", "2020-04-30T19:07:07Z")


async def test_a_compromise_in_the_future_is_refused(integrator: Client) -> None:
    future = clock.rfc3339(clock.now() + timedelta(days=1))
    answer = await integrator.act(await issued(integrator), type="RevokeAction", compromiseDate=future)
    assert (answer.status, answer.code) == (400, "cagw-4001")


@pytest.mark.parametrize("reason", [None, "unspecified", "certificateHold"])
async def test_hold_and_unhold_show_and_vanish_on_the_crl(integrator: Client, reason: str | None) -> None:
    serial = await issued(integrator)
    held = await integrator.act(serial, type="HoldAction", reason=reason, issueCrl=True)
    assert held.json["action"]["reason"] == "certificateHold"
    assert await status_of(integrator, serial) == "held"
    assert listed(await crl_of(integrator), serial) is not None
    released = await integrator.act(serial, type="UnholdAction", reason="unspecified", issueCrl=True)
    assert released.status == 200
    assert await status_of(integrator, serial) == "normal"
    assert listed(await crl_of(integrator), serial) is None


async def test_hold_for_a_compromised_key_is_refused(integrator: Client) -> None:
    answer = await integrator.act(await issued(integrator), type="HoldAction", reason="keyCompromise")
    assert (answer.status, answer.code) == (400, "cagw-4001")


async def test_revoking_with_the_reason_hold_is_a_hold(integrator: Client) -> None:
    serial = await issued(integrator)
    await integrator.act(serial, type="RevokeAction", reason="certificateHold")
    assert await status_of(integrator, serial) == "held"


async def test_the_crl_number_moves_only_when_a_crl_is_asked_for(authority: Authority, integrator: Client) -> None:
    await issue_crl(authority, SYSTEM, (await authority.snapshot()).ca("demo~issuing"))
    before = number(await crl_of(integrator))
    await integrator.act(await issued(integrator), type="RevokeAction", issueCrl=False)
    assert number(await crl_of(integrator)) == before
    await integrator.act(await issued(integrator), type="RevokeAction", issueCrl="true")
    assert number(await crl_of(integrator)) == before + 1


async def test_repeating_succeeds_unless_told_otherwise(integrator: Client) -> None:
    serial = await issued(integrator)
    for _ in range(2):
        answer = await integrator.act(serial, type="RevokeAction", reason="superseded")
        assert answer.json["action"]["status"] == "COMPLETED"
    strict = await integrator.act(
        serial, type="RevokeAction", reason="superseded", succeedIfAlreadyInRequestedState=False
    )
    assert (strict.status, strict.code) == (409, "cagw-4025")


async def test_revoked_is_final(integrator: Client) -> None:
    serial = await issued(integrator)
    await integrator.act(serial, type="RevokeAction")
    for action in ("HoldAction", "UnholdAction", "RenewAction", "ReissueAction"):
        answer = await integrator.act(serial, type=action)
        assert (answer.status, answer.code) == (409, "cagw-4025")


async def test_only_a_held_certificate_is_taken_off_hold(integrator: Client) -> None:
    answer = await integrator.act(
        await issued(integrator), type="UnholdAction", succeedIfAlreadyInRequestedState=False
    )
    assert answer.code == "cagw-4025"


async def test_deactivating_a_certificate_ends_it(integrator: Client) -> None:
    serial = await issued(integrator)
    answer = await integrator.act(serial, type="DeactivateAction")
    assert answer.json["action"]["reason"] == "cessationOfOperation"
    assert await status_of(integrator, serial) == "revoked"


@pytest.mark.parametrize("action", ["ReactivateAction", "RecoverAction"])
async def test_what_a_certificate_cannot_do_is_501(integrator: Client, action: str) -> None:
    answer = await integrator.act(await issued(integrator), type=action)
    assert (answer.status, answer.code) == (501, "cagw-5010")


@pytest.mark.parametrize("action", ["RenewAction", "ReissueAction", "RecoverAction"])
async def test_what_a_subject_cannot_do_is_501(integrator: Client, action: str) -> None:
    await issued(integrator)
    answer = await integrator.act_on_subject("CN=www.example", type=action)
    assert (answer.status, answer.code) == (501, "cagw-5010")


async def test_recovery_and_domains_are_501(integrator: Client) -> None:
    for method, path in (
        ("GET", "domains"),
        ("POST", "domains"),
        ("GET", "domains/example.com"),
        ("POST", "domains/example.com/verifications"),
        ("POST", "certificates/4F/recoveries"),
        ("POST", "subjects/CN%3Dx/recoveries"),
    ):
        answer = await integrator.request(method, f"{CA_PATH}/demo~issuing/{path}", {})
        assert (answer.status, answer.code) == (501, "cagw-5010"), path


@pytest.mark.parametrize("body", [{"type": "DestroyAction"}, {}, {"type": "RevokeAction", "issueCrl": "perhaps"}])
async def test_an_action_that_is_none_is_refused(integrator: Client, body: dict[str, str]) -> None:
    answer = await integrator.act(await issued(integrator), **body)
    assert (answer.status, answer.code) == (400, "cagw-4001")


async def test_an_unknown_serial_number_is_404_and_a_wrong_one_400(integrator: Client) -> None:
    assert (await integrator.act("4F2A", type="RevokeAction")).code == "cagw-4020"
    assert (await integrator.act("xyz", type="RevokeAction")).code == "cagw-4001"


# ---- renewal ---------------------------------------------------------------------------------------------------------


def renewed(answer: Answer) -> x509.Certificate:
    return x509.load_der_x509_certificate(base64.b64decode(answer.json["enrollment"]["body"]))


async def test_renewing_keeps_key_subject_and_names_to_the_byte(integrator: Client) -> None:
    old = (await integrator.enroll(wish(subjectVariables=[{"type": "CN", "value": "Zoë"}]))).certificate
    with clock.frozen(clock.now() + timedelta(days=100)):
        answer = await integrator.act(f"{old.serial_number:x}", type="RenewAction")
    new = renewed(answer)
    assert int(answer.json["action"]["properties"]["serialNumber"], 16) == new.serial_number
    assert new.serial_number != old.serial_number
    assert new.public_key() == old.public_key()
    assert new.subject.public_bytes() == old.subject.public_bytes()
    assert new.not_valid_after_utc > old.not_valid_after_utc
    for kind in (x509.SubjectAlternativeName, x509.KeyUsage, x509.ExtendedKeyUsage):
        wanted = old.extensions.get_extension_for_class(kind)
        assert new.extensions.get_extension_for_class(kind) == wanted
    found = (await integrator.certificate_of(f"{new.serial_number:X}")).json["certificate"]
    assert found["previousId"] == (await integrator.certificate_of(f"{old.serial_number:X}")).json["certificate"]["id"]


async def test_reissuing_takes_a_new_key_and_keeps_the_end(integrator: Client) -> None:
    old = (await integrator.enroll(wish())).certificate
    key = ec.generate_private_key(ec.SECP384R1())
    with clock.frozen(clock.now() + timedelta(days=100)):
        answer = await integrator.act(
            f"{old.serial_number:x}", type="ReissueAction", csr=b64(csr("ignored.example", key=key)), includeCa=True
        )
    new = renewed(answer)
    assert new.public_key() == key.public_key()
    assert new.subject == old.subject
    assert new.not_valid_after_utc == old.not_valid_after_utc
    assert len(answer.json["enrollment"]["chain"]) == 2


async def test_the_validity_of_a_renewal_obeys_role_and_profile(clients: dict[str, Client]) -> None:
    serial = await issued(clients["integrator"])
    longer = await clients["policy-constrained-tenant"].act(serial, type="RenewAction", validityPeriod="P2Y")
    assert longer.code == "cagw-4027"
    shorter = await clients["policy-constrained-tenant"].act(serial, type="RenewAction", validityPeriod="P1D")
    assert shorter.status == 200


async def test_a_renewal_with_another_key_is_refused(integrator: Client) -> None:
    answer = await integrator.act(await issued(integrator), type="RenewAction", csr=b64(csr()))
    assert (answer.status, answer.code) == (400, "cagw-4001")


async def test_a_held_certificate_is_not_renewed(integrator: Client) -> None:
    serial = await issued(integrator)
    await integrator.act(serial, type="HoldAction")
    assert (await integrator.act(serial, type="RenewAction")).code == "cagw-4025"


# ---- subjects --------------------------------------------------------------------------------------------------------


async def statuses(client: Client, serials: Sequence[str]) -> list[str]:
    return [await status_of(client, serial) for serial in serials]


async def test_a_subject_is_suspended_and_reactivated(integrator: Client) -> None:
    serials = [await issued(integrator, "CN=Ann,O=Demo") for _ in range(3)]
    other = await issued(integrator, "CN=Bob,O=Demo")
    await integrator.act(serials[0], type="RevokeAction")
    answer = await integrator.act_on_subject("cn=ann, o=demo", type="DeactivateAction", issueCrl=True)
    assert answer.json["action"]["properties"] == {"certificateCount": "2"}
    assert await statuses(integrator, [*serials, other]) == ["revoked", "held", "held", "normal"]
    assert listed(await crl_of(integrator), serials[1]) is not None
    await integrator.act_on_subject("/O=Demo/CN=Ann", type="ReactivateAction")
    assert await statuses(integrator, serials) == ["revoked", "normal", "normal"]


async def test_all_certificates_of_a_subject_are_revoked(integrator: Client) -> None:
    serials = [await issued(integrator, "CN=Zoë,O=Café & Söhne\\, Inc.") for _ in range(2)]
    answer = await integrator.act_on_subject(
        "CN=Zoë,O=Café & Söhne\\, Inc.", type="RevokeAction", reason="cessationOfOperation"
    )
    assert answer.status == 200
    assert await statuses(integrator, serials) == ["revoked", "revoked"]
    strict = {"type": "RevokeAction", "succeedIfAlreadyInRequestedState": False}
    again = await integrator.act_on_subject("CN=Zoë,O=Café & Söhne\\, Inc.", **strict)
    assert (again.status, again.code) == (409, "cagw-4025")


async def test_an_unknown_subject_is_404_and_a_wrong_one_400(integrator: Client) -> None:
    assert (await integrator.act_on_subject("CN=nobody", type="RevokeAction")).code == "cagw-4020"
    assert (await integrator.act_on_subject("nobody", type="RevokeAction")).code == "cagw-4005"
    assert (await integrator.get(f"{CA_PATH}/demo~issuing/subjects/{quote('CN=nobody')}")).code == "cagw-4020"
