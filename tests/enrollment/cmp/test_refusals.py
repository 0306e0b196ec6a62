"""What is wrong with a message is said in CMP's own terms, and signed, so that nobody else can say it."""

from __future__ import annotations

import secrets
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from tests.enrollment.cmp.conftest import REFERENCE, SECRET, SOURCE, Desk, NewDesk
from tests.support.authority import OPERATOR
from tests.support.cmp_client import NULL_DN, certificate_request, check_protection, taken_apart
from tests.support.foreign import ForeignCa

from intaglio.asn1 import algorithms, cmp, crmf, der
from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.asn1.cmp import Body, Status
from intaglio.authority.certificates import RevocationReason
from intaglio.core import clock
from intaglio.enrollment import administration, pipeline
from intaglio.enrollment.administration import EndpointChanges
from intaglio.enrollment.cmp.macs import password_based_mac, pbmac1
from intaglio.enrollment.cmp.service import respond
from intaglio.enrollment.values import Applicant, Protocol
from intaglio.x509.extensions import basic_constraints, extension
from intaglio.x509.names import Name


async def refusal(desk: Desk, message: bytes) -> frozenset[str]:
    """Why a message is refused: the failures of a signed error message."""
    answer = cmp.read_message((await respond(desk.cmp, desk.endpoint, message, SOURCE)).body)
    check_protection(answer, SECRET)
    assert answer.body is Body.ERROR
    return taken_apart(answer).failures


@pytest.mark.parametrize(
    ("changes", "failure"),
    [
        ({"version": 1}, "unsupportedVersion"),
        ({"version": 4}, "unsupportedVersion"),
        ({"transaction_id": None}, "badRequest"),
        ({"transaction_id": b""}, "badRequest"),
        ({"sender_nonce": None}, "badSenderNonce"),
        ({"sender_nonce": b"too short"}, "badSenderNonce"),
        ({"message_time": clock.now() - timedelta(hours=1)}, "badTime"),
        ({"message_time": clock.now() + timedelta(hours=1)}, "badTime"),
        ({"recipient": der.explicit(4, Name.parse("CN=Another CA").der)}, "wrongAuthority"),
        ({"recipient": der.implicit(6, b"https://ca.example")}, "wrongAuthority"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
async def test_a_header_that_breaks_a_rule_is_refused(new_desk: NewDesk, changes: dict[str, Any], failure: str) -> None:
    desk = await new_desk()
    content, _ = certificate_request()
    answer = await desk.client().ask(Body.IR, content, **changes)
    assert (answer.body, answer.failures) == (Body.ERROR, {failure})


@pytest.mark.parametrize(
    ("test", "changes"),
    [
        ("message-time", {"message_time": clock.now() - timedelta(hours=1)}),
        ("sender-nonce", {"sender_nonce": b"short"}),
        ("recipient", {"recipient": der.explicit(4, Name.parse("CN=Another CA").der)}),
    ],
)
async def test_a_test_that_is_left_out_refuses_nothing(
    new_desk: NewDesk, test: str, changes: dict[str, Any]
) -> None:
    desk = await new_desk(options={"excluded_tests": [test]})
    content, _ = certificate_request()
    assert (await desk.client(implicit=True).ask(Body.IR, content, **changes)).certificate is not None


async def test_a_message_has_to_say_its_time_where_that_is_demanded(new_desk: NewDesk) -> None:
    lenient = await new_desk()
    strict = await new_desk(options={"require_message_time": True}, profile="cmp-non-repudiation")
    content, _ = certificate_request()
    assert (await lenient.client(implicit=True).ask(Body.IR, content, message_time=None)).certificate is not None
    assert (await strict.client().ask(Body.IR, content, message_time=None)).failures == {"missingTimeStamp"}


async def test_a_message_to_the_ca_or_to_its_signer_has_arrived(new_desk: NewDesk) -> None:
    desk = await new_desk()
    ca = (await desk.enrollment.authority.current()).ca("demo~issuing")
    error = await desk.client().ask(Body.POLLREQ, cmp.poll_request([0]), message_time=None)
    signer = error.message.header.sender
    for recipient in (der.explicit(4, ca.certificate.subject.der), signer, NULL_DN):
        content, _ = certificate_request()
        client = desk.client(implicit=True)
        assert (await client.ask(Body.IR, content, recipient=recipient)).certificate is not None


@pytest.mark.parametrize(
    "data",
    [b"", b"0", b"not asn.1 at all", b"\x30\x80\x00\x00", b"\x30\x03\x02\x01\x02", bytes(70_000)],
    ids=["empty", "cut", "text", "indefinite", "not-a-message", "too-long"],
)
async def test_what_is_no_message_is_answered_with_a_signed_error(new_desk: NewDesk, data: bytes) -> None:
    assert await refusal(await new_desk(), data) == {"badDataFormat"}


@pytest.mark.parametrize("body", sorted(set(Body) - {Body.NESTED}), ids=lambda body: body.name)
async def test_a_body_that_is_cut_off_is_refused(new_desk: NewDesk, body: Body) -> None:
    desk = await new_desk()
    answer = await desk.client().ask(body, b"\x30\x03\x02\x01")
    assert answer.body is Body.ERROR
    assert answer.failures in ({"badDataFormat"}, {"badRequest"}, {"badCertTemplate"})


async def test_an_answer_is_no_question(new_desk: NewDesk) -> None:
    desk = await new_desk()
    answer = await desk.client().ask(Body.PKICONF, der.null())
    assert answer.failures == {"badRequest"}


async def test_nothing_that_is_sent_is_too_much(new_desk: NewDesk) -> None:
    desk = await new_desk()
    random, content = Random(20261121), certificate_request(dns=["device.example"])[0]
    key = ec.generate_private_key(ec.SECP256R1())
    holder = desk.client(certificate=await desk.client().enrol(key=key), key=key)
    for number in range(150):
        whole = bytearray((holder if number % 2 else desk.client()).message(Body.IR, content))
        for _ in range(random.randint(1, 3)):
            whole[random.randrange(len(whole))] = random.randrange(256)
        cut = random.choice((len(whole), random.randrange(len(whole))))
        reply = await respond(desk.cmp, desk.endpoint, bytes(whole[:cut]), f"192.0.2.{number}")
        answer = cmp.read_message(reply.body)
        assert answer.protection is not None


# ---- protection ------------------------------------------------------------------------------------------------------


async def test_a_message_is_repeated_in_vain(new_desk: NewDesk) -> None:
    desk = await new_desk()
    client = desk.client(implicit=True)
    content, _ = certificate_request()
    message = client.message(Body.IR, content)
    assert (await client.post(message)).certificate is not None
    assert (await client.post(message)).failures == {"transactionIdInUse"}


@pytest.mark.parametrize("place", ["header", "body", "protection"])
@pytest.mark.parametrize("by", ["secret", "certificate"])
async def test_a_message_that_was_changed_on_the_way_is_refused(new_desk: NewDesk, by: str, place: str) -> None:
    desk = await new_desk()
    client = desk.client()
    if by == "certificate":
        key = ec.generate_private_key(ec.SECP256R1())
        client = desk.client(certificate=await desk.client().enrol(key=key), key=key)
    content, _ = certificate_request(subject="CN=device-1")
    header = client.header(sender_nonce=b"0123456789abcdef")
    message = client.protect(header, cmp.body(Body.CR, content))
    if place == "protection":
        protection = cmp.read_message(message).protection
        assert protection is not None
        changed = message.replace(protection, protection[:-1] + bytes((protection[-1] ^ 1,)))
    else:
        was = b"device-1" if place == "body" else b"0123456789abcdef"
        changed = message.replace(was, bytes((was[0] ^ 1, *was[1:])), 1)
    assert changed != message
    assert await refusal(desk, changed) == {"badMessageCheck"}


@pytest.mark.parametrize("secret", [("unknown", SECRET), (REFERENCE, b"wrong")], ids=["reference", "secret"])
async def test_a_wrong_reference_and_a_wrong_secret_are_told_apart_by_nobody(
    new_desk: NewDesk, secret: tuple[str, bytes]
) -> None:
    desk = await new_desk()
    content, _ = certificate_request()
    answer = cmp.read_message(await desk.send(desk.client(secret=secret).message(Body.IR, content)))
    told = taken_apart(answer)
    assert told.failures == {"badMessageCheck"}
    assert told.texts[0].startswith("The reference or the secret")


async def test_whoever_guesses_secrets_is_stopped(new_desk: NewDesk) -> None:
    desk = await new_desk()
    content, _ = certificate_request()
    found = []
    for _ in range(25):
        guess = desk.client(secret=(REFERENCE, secrets.token_bytes(8))).message(Body.IR, content)
        found.append(taken_apart(cmp.read_message(await desk.send(guess))).failures)
    assert found[0] == {"badMessageCheck"}
    assert found[-1] == {"systemUnavail"}


@pytest.mark.parametrize(
    ("mac", "says"),
    [
        (password_based_mac(iterations=10_000_000), "at most"),
        (password_based_mac(iterations=10), "are needed"),
        (password_based_mac(digest="sha1"), "derived with sha1"),
        (password_based_mac(mac="sha224"), "HMAC-SHA224"),
        (pbmac1(iterations=1_000_000_000), "at most"),
        (pbmac1(mac="sha224"), "HMAC-SHA224"),
    ],
    ids=["too-many", "too-few", "sha1", "hmac-sha224", "pbmac1-too-many", "pbmac1-hmac-sha224"],
)
async def test_a_mac_that_is_too_weak_or_too_costly_is_refused_before_it_is_computed(
    new_desk: NewDesk, mac: Any, says: str
) -> None:
    desk = await new_desk()
    content, _ = certificate_request()
    header = desk.client().header(protection_algorithm=mac.identifier)
    message = cmp.message(cmp.header(header), cmp.body(Body.IR, content), b"whatever")
    answer = taken_apart(cmp.read_message(await desk.send(message)))
    assert answer.failures == {"badAlg"}
    assert says in answer.texts[0]


async def test_an_endpoint_takes_only_the_protections_that_it_lists(new_desk: NewDesk) -> None:
    desk = await new_desk(options={"protections": ["signature"]})
    content, _ = certificate_request()
    assert await refusal(desk, desk.client().message(Body.IR, content)) == {"wrongIntegrity"}


async def test_a_signature_with_sha1_is_refused(new_desk: NewDesk) -> None:
    desk = await new_desk()
    content, _ = certificate_request()
    sha1 = der.sequence(der.oid("1.2.840.113549.1.1.5"), der.null())
    certificate, key = ForeignCa("Vendor").end_entity()
    client = desk.client(certificate=certificate, key=key)
    message = client.protect(client.header(protection_algorithm=sha1), cmp.body(Body.IR, content))
    assert await refusal(desk, message) == {"badAlg"}


async def test_rsassa_pss_with_sha1_is_refused(new_desk: NewDesk) -> None:
    desk = await new_desk()
    content, _ = certificate_request()
    plain = der.sequence(der.oid(algorithms.RSASSA_PSS), der.sequence())
    certificate, key = ForeignCa("Vendor").end_entity()
    client = desk.client(certificate=certificate, key=key)
    message = client.protect(client.header(protection_algorithm=plain), cmp.body(Body.IR, content))
    assert await refusal(desk, message) == {"badAlg"}


async def test_a_signer_that_nobody_here_trusts_is_refused(new_desk: NewDesk) -> None:
    desk = await new_desk(options={"trusted": [ForeignCa("Another vendor").pem]})
    certificate, key = ForeignCa("Vendor").end_entity()
    content, _ = certificate_request()
    message = desk.client(certificate=certificate, key=key).message(Body.IR, content)
    assert await refusal(desk, message) == {"signerNotTrusted"}


async def test_a_certificate_that_merely_names_our_ca_is_not_of_our_ca(new_desk: NewDesk) -> None:
    desk = await new_desk()
    ca = (await desk.enrollment.authority.current()).ca("demo~issuing")
    pretender = ForeignCa("Pretender")
    pretender.subject = type(pretender.subject).from_rfc4514_string(ca.certificate.subject.rfc4514)
    certificate, key = pretender.end_entity()
    content, _ = certificate_request()
    message = desk.client(certificate=certificate, key=key).message(Body.IR, content)
    assert await refusal(desk, message) == {"signerNotTrusted"}


async def test_a_stranger_is_admitted_only_where_somebody_approves(new_desk: NewDesk) -> None:
    options = {"excluded_tests": ["trust-anchor"], "names": "request"}
    automatic = await new_desk(options=options)
    manual = await new_desk(options=options, approval="manual", profile="cmp-non-repudiation")
    certificate, key = ForeignCa("Vendor").end_entity()
    content, _ = certificate_request()
    message = automatic.client(certificate=certificate, key=key).message(Body.IR, content)
    assert await refusal(automatic, message) == {"signerNotTrusted"}
    answer = await manual.client(certificate=certificate, key=key).ask(Body.IR, content)
    assert answer.status == Status.WAITING


@pytest.mark.parametrize("change", ["revoked", "held", "expired"])
async def test_a_certificate_that_is_over_protects_nothing(
    new_desk: NewDesk, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = await new_desk()
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = await desk.client().enrol(key=key)
    client = desk.client(certificate=certificate, key=key)
    content, _ = certificate_request()
    if change == "expired":
        later = certificate.not_valid_after_utc + timedelta(days=1)
        monkeypatch.setattr(clock, "now", lambda: later)
        answer = cmp.read_message(await desk.send(client.message(Body.CR, content)))
        assert taken_apart(answer).failures == {"signerNotTrusted"}
        return
    reason = RevocationReason.CERTIFICATE_HOLD if change == "held" else RevocationReason.KEY_COMPROMISE
    serial = certificate.serial_number.to_bytes(20, "big")
    await pipeline.revoke(desk.enrollment, desk.endpoint, Applicant("admin", "none", ""), serial, reason)
    assert await refusal(desk, client.message(Body.CR, content)) == {"certRevoked"}


async def test_a_certificate_that_is_not_for_signatures_protects_nothing(new_desk: NewDesk) -> None:
    desk = await new_desk(profile="cmp-key-encipherment")
    key = rsa.generate_private_key(65537, 2048)
    certificate = await desk.client(implicit=True).enrol(key=key)
    content, _ = certificate_request()
    message = desk.client(certificate=certificate, key=key).message(Body.CR, content)
    assert await refusal(desk, message) == {"signerNotTrusted"}


async def test_a_message_without_its_certificate_is_refused(new_desk: NewDesk) -> None:
    desk = await new_desk()
    key = ec.generate_private_key(ec.SECP256R1())
    client = desk.client(certificate=await desk.client().enrol(key=key), key=key)
    content, _ = certificate_request()
    header, body = cmp.header(client.header()), cmp.body(Body.CR, content)
    signature = algorithms.sign(key, cmp.protected_part(header, body))
    assert await refusal(desk, cmp.message(header, body, signature)) == {"signerNotTrusted"}


async def test_requests_from_elsewhere_are_refused(new_desk: NewDesk) -> None:
    desk = await new_desk(networks=("198.51.100.0/24",))
    content, _ = certificate_request()
    assert await refusal(desk, desk.client().message(Body.IR, content)) == {"notAuthorized"}


# ---- requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "failure"),
    [
        ({"issuer": Name.parse("CN=Another CA").der}, "badCertTemplate"),
        ({"serial": 7}, "badCertTemplate"),
        ({"key": ec.generate_private_key(ec.SECP256K1()), "proof": b""}, "badAlg"),
        ({"proof": b""}, "badPOP"),
        ({"proof": crmf.ra_verified()}, "badPOP"),
        ({"proof": crmf.signature_proof(KeyAlgorithm.ECDSA_P256.signature_identifier, b"wrong")}, "badPOP"),
        ({"proof": der.explicit(2, der.implicit(1, b"\x01"))}, "badPOP"),
    ],
    ids=["issuer", "serial", "curve", "no-proof", "ra-verified", "wrong-proof", "challenge"],
)
async def test_a_request_that_cannot_be_granted_is_rejected(
    new_desk: NewDesk, wish: dict[str, Any], failure: str
) -> None:
    desk = await new_desk()
    answer = await desk.client().request(request_id=5, **wish)
    assert (answer.body, answer.status, answer.request_id) == (Body.IP, Status.REJECTION, 5)
    assert answer.failures == {failure}


@pytest.mark.parametrize(
    ("options", "key", "failure"),
    [
        ({"minimum_rsa_bits": 3072}, lambda: rsa.generate_private_key(65537, 2048), "badCertTemplate"),
        ({"curves": ["P-384"]}, lambda: ec.generate_private_key(ec.SECP256R1()), "badCertTemplate"),
        ({"minimum_ec_bits": 384}, lambda: ec.generate_private_key(ec.SECP256R1()), "badCertTemplate"),
        ({"signature_classes": ["ecdsa"]}, lambda: rsa.generate_private_key(65537, 2048), "badCertTemplate"),
    ],
    ids=["rsa-bits", "curve", "ec-bits", "class"],
)
async def test_an_endpoint_certifies_only_the_keys_that_it_lists(
    new_desk: NewDesk, options: dict[str, Any], key: Any, failure: str
) -> None:
    desk = await new_desk(options=options)
    assert (await desk.client().request(key=key())).failures == {failure}


async def test_several_requests_in_one_message_are_refused(new_desk: NewDesk) -> None:
    desk = await new_desk()
    content, _ = certificate_request()
    one = der.read_tlv(content).content
    assert (await desk.client().ask(Body.IR, der.sequence(one, one))).failures == {"badRequest"}


async def test_nobody_becomes_a_ca_by_asking(new_desk: NewDesk) -> None:
    desk = await new_desk()
    wish = [extension("2.5.29.19", True, basic_constraints(True))]
    answer = await desk.client(implicit=True).request(extensions=wish)
    if answer.certificate is not None:
        assert "cA=True" not in str(answer.issued.extensions)
        constraints = [each for each in answer.issued.extensions if each.oid.dotted_string == "2.5.29.19"]
        assert all(not each.value.ca for each in constraints)


async def test_an_endpoint_that_was_switched_off_issues_nothing_more(new_desk: NewDesk) -> None:
    desk = await new_desk()
    changes = EndpointChanges(False, None, None, None, None)
    await administration.change_endpoint(desk.enrollment, OPERATOR, Protocol.CMP, desk.endpoint.name, changes)
    content, _ = certificate_request()
    reply = await respond(desk.cmp, desk.endpoint, desk.client().message(Body.IR, content), SOURCE)
    answer = taken_apart(cmp.read_message(reply.body))
    assert answer.certificate is None
    assert answer.failures
