"""What somebody tries who has no secret, or one that is good for something else."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from tests.enrollment.cmp.conftest import Desk, NewDesk
from tests.enrollment.cmp.test_certification import registration_authority
from tests.enrollment.conftest import NewEndpointAt
from tests.support.authority import OPERATOR
from tests.support.cmp_client import NULL_DN, Answer, certificate_request, taken_apart
from tests.support.requests import new_key, request

from intaglio.asn1 import algorithms, cmp, crmf, der
from intaglio.asn1.cmp import Body
from intaglio.enrollment import pipeline
from intaglio.enrollment.administration import EndpointChanges, change_endpoint, create_tenant
from intaglio.enrollment.cmp.macs import pbmac1
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.values import Applicant, Application, Granted, Protocol
from intaglio.x509.certificates import pem
from intaglio.x509.extensions import extension


@pytest.mark.parametrize("octets", [1, 4, 19])
@pytest.mark.parametrize("lax", [False, True])
async def test_a_mac_under_a_key_that_can_be_guessed_protects_nothing(
    new_desk: NewDesk, octets: int, lax: bool
) -> None:
    """The sender chooses how long the derived key is: one octet would be found by 256 attempts without the secret."""
    desk = await new_desk(options={"excluded_tests": ["protection-strength"] if lax else []})
    client, mac = desk.client(implicit=True), replace(pbmac1(), key_octets=octets)
    content, _ = certificate_request()
    header = cmp.header(client.header(protection_algorithm=mac.identifier))
    body = cmp.body(Body.IR, content)
    right = mac.compute(b"a shared secret of enough length", cmp.protected_part(header, body))
    answer = taken_apart(cmp.read_message(await desk.send(cmp.message(header, body, right))))
    assert answer.failures == {"badAlg"}


_HUGE = 1 << 16_000  # more digits than Python turns into text


@pytest.mark.parametrize("where", ["version", "iterations", "key-length", "reason", "confirmed", "polled"])
async def test_a_number_of_thousands_of_digits_is_refused_as_any_other(new_desk: NewDesk, where: str) -> None:
    desk = await new_desk()
    client = desk.client()
    content, _ = certificate_request()
    if where == "version":
        message = client.message(Body.IR, content, version=_HUGE)
    elif where in ("iterations", "key-length"):
        mac = replace(pbmac1(), **{"iterations" if where == "iterations" else "key_octets": _HUGE})
        message = cmp.message(
            cmp.header(client.header(protection_algorithm=mac.identifier)), cmp.body(Body.IR, content), b"whatever"
        )
    elif where == "reason":
        issued = (await client.request()).issued
        reason = extension("2.5.29.21", False, der.tlv(der.ENUMERATED, der.integer(_HUGE)[4:]))
        template = crmf.cert_template(issuer=issued.issuer.public_bytes(), serial=issued.serial_number)
        message = client.begin().message(
            Body.RR, der.sequence(der.sequence(template, der.sequence(reason)))
        )
    else:
        await client.request()
        number = der.integer(_HUGE)
        entry = der.sequence(der.octet_string(b"hash"), number) if where == "confirmed" else der.sequence(number)
        body = Body.CERTCONF if where == "confirmed" else Body.POLLREQ
        message = client.message(body, der.sequence(entry))
    answer = taken_apart(cmp.read_message(await desk.send(message)))
    assert answer.failures, answer


async def of_profile(desk: Desk, new_endpoint: NewEndpointAt, profile: str) -> tuple[x509.Certificate, Any]:
    """A certificate that the CA of the endpoint issued by another profile, and its key."""
    endpoint, key = await new_endpoint("acme", name=profile, profile=profile), new_key()
    await desk.enrollment.authority.current()
    csr = request("CN=device-1", dns=["device-1.example"], key=key)
    made = await pipeline.apply(desk.enrollment, Application(endpoint, Applicant("x", "account", ""), csr=csr))
    assert isinstance(made, Granted)
    return x509.load_der_x509_certificate(made.certificate), key


@pytest.mark.parametrize("body", [Body.IR, Body.CR, Body.P10CR, Body.KUR])
@pytest.mark.parametrize("names", ["certificate", "request"])
async def test_a_certificate_for_something_else_enrols_nobody(
    new_desk: NewDesk, new_endpoint: NewEndpointAt, body: Body, names: str
) -> None:
    desk = await new_desk(options={"names": names})
    certificate, key = await of_profile(desk, new_endpoint, "privatessl-tls-server")
    client = desk.client(certificate=certificate, key=key, implicit=True)
    content = request("CN=device-1") if body is Body.P10CR else certificate_request(dns=["device-1.example"])[0]
    refused = await client.ask(body, content)
    assert (refused.certificate, refused.failures) == (
        None,
        {"badCertTemplate" if body is Body.KUR else "notAuthorized"},
    )


async def test_certificates_of_every_profile_count_where_the_ca_is_trusted(
    new_desk: NewDesk, new_endpoint: NewEndpointAt, enrollment: Enrollment
) -> None:
    issuer = pem((await enrollment.authority.current()).ca("demo~issuing").certificate.der)
    desk = await new_desk(options={"trusted": [issuer]})
    certificate, key = await of_profile(desk, new_endpoint, "privatessl-tls-server")
    assert (await desk.client(certificate=certificate, key=key, implicit=True).request(Body.CR)).certificate


@pytest.mark.parametrize("other", [{"profile": "cmp-non-repudiation"}, {"tenant": "another"}])
async def test_a_registration_authority_has_no_say_at_other_endpoints(
    new_desk: NewDesk, enrollment: Enrollment, other: dict[str, Any]
) -> None:
    await create_tenant(enrollment, OPERATOR, "another")
    theirs = await (await new_desk(name="theirs", **other)).client().enrol()
    desk = await new_desk(name="ours")
    own, key = await desk.client().enrol(), ec.generate_private_key(ec.SECP256R1())
    officer = await desk.client().enrol(subject="CN=officer", key=key)
    wanted = EndpointChanges(options={"registration_authorities": [officer.fingerprint(hashes.SHA256()).hex()]})
    await change_endpoint(enrollment, OPERATOR, Protocol.CMP, "ours", wanted)
    await enrollment.authority.reload()
    client = desk.client(certificate=officer, key=key)
    for certificate, failures in ((theirs, {"notAuthorized"}), (own, frozenset())):
        template = crmf.cert_template(issuer=certificate.issuer.public_bytes(), serial=certificate.serial_number)
        answer = await client.begin().ask(Body.RR, der.sequence(der.sequence(template)))
        assert (answer.body, answer.failures) == (Body.RP, failures)
    control = crmf.cert_id(theirs.issuer.public_bytes(), theirs.serial_number)
    content, _ = certificate_request(controls=[("1.3.6.1.5.5.7.5.1.5", control)])
    assert (await client.begin().ask(Body.KUR, content)).failures == {"notAuthorized"}


async def test_a_proof_of_possession_that_names_no_subject_is_not_taken_for_one_that_does(new_desk: NewDesk) -> None:
    """Whoever overheard such a proof could have the key of another certified under a name of his own."""
    desk = await new_desk()
    key = ec.generate_private_key(ec.SECP256R1())
    spki = algorithms.spki(key.public_key())
    signed = der.sequence(der.explicit(0, NULL_DN), spki)
    identifier = algorithms.key_algorithm_of(key).signature_identifier
    signature = algorithms.sign(key, signed)
    proof = der.tlv(0xA1, der.tlv(0xA0, der.read_tlv(signed).content) + identifier + der.bit_string(signature))
    content, _ = certificate_request(key=key, proof=proof)
    assert (await desk.client(implicit=True).ask(Body.IR, content)).failures == {"badPOP"}


async def test_who_is_passed_on_by_a_registration_authority_has_no_more_rights_for_that(new_desk: NewDesk) -> None:
    desk, authority = await registration_authority(new_desk)
    victim = await desk.client().enrol(subject="CN=victim")
    key = ec.generate_private_key(ec.SECP256R1())
    device = desk.client(certificate=await desk.client().enrol(key=key), key=key, implicit=True)

    async def passed_on(body: Body, content: bytes) -> Answer:
        inner = device.begin().message(body, content)
        authority.transaction_id = device.transaction_id
        return taken_apart(cmp.read_message(await desk.send(authority.message(Body.NESTED, der.sequence(inner)))))

    template = crmf.cert_template(issuer=victim.issuer.public_bytes(), serial=victim.serial_number)
    assert (await passed_on(Body.RR, der.sequence(der.sequence(template)))).failures == {"notAuthorized"}
    control = crmf.cert_id(victim.issuer.public_bytes(), victim.serial_number)
    update, _ = certificate_request(controls=[("1.3.6.1.5.5.7.5.1.5", control)])
    assert (await passed_on(Body.KUR, update)).failures == {"notAuthorized"}
    unproven, _ = certificate_request(proof=crmf.ra_verified())
    assert (await passed_on(Body.CR, unproven)).failures == {"badPOP"}
    other, _ = certificate_request(subject="CN=victim")
    assert (await passed_on(Body.CR, other)).issued.subject.rfc4514_string() == "CN=device-1"


async def test_of_all_who_use_a_secret_for_one_use_at_once_one_gets_a_certificate(new_desk: NewDesk) -> None:
    desk = await new_desk(credential={"uses": 1})
    found = await asyncio.gather(*(desk.client(implicit=True).request(subject=f"CN=device-{n}") for n in range(5)))
    assert sum(answer.certificate is not None for answer in found) == 1
