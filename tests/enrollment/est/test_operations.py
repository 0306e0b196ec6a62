"""What an EST endpoint gives to whom."""

from __future__ import annotations

import base64
import email
import email.policy
from datetime import timedelta

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key, pkcs7
from starlette.applications import Starlette
from tests.enrollment.est.conftest import PASSWORD, USER, Est, certificates
from tests.enrollment.test_trust import Issuer
from tests.support.requests import new_key, request

from intaglio.asn1 import der
from intaglio.authority.certificates import RevocationReason
from intaglio.core import clock
from intaglio.enrollment import metrics, pipeline
from intaglio.enrollment.credentials import Bound
from intaglio.enrollment.est.routes import routes
from intaglio.enrollment.values import Applicant
from intaglio.x509.certificates import pem, read_certificate
from intaglio.x509.cms.enveloped import read_enveloped
from intaglio.x509.cms.identifiers import SIGNED_DATA, content_info
from intaglio.x509.cms.signed import read_signed_data
from intaglio.x509.cms.signing import sign


def octets(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


async def test_the_ca_certificates_are_told_to_everybody(est: Est) -> None:
    await est.endpoint()
    found = certificates(await est("cacerts"))
    assert {each.subject.rfc4514_string() for each in found} == {"CN=issuing,O=Demo,C=CA", "CN=root,O=Demo,C=CA"}
    by_place = await est("/est/main/demo~issuing/est_digital_signature/cacerts")
    assert certificates(by_place) == found
    assert certificates(await est("default/cacerts")) == found


async def test_somebody_with_a_password_gets_what_he_asks_for(est: Est) -> None:
    await est.endpoint()
    made = await est.enrolled(request("CN=router-7", dns=["router-7.example"]))
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["router-7.example"]


async def test_nobody_is_asked_for_a_password_before_he_is_refused(est: Est) -> None:
    await est.endpoint()
    asked = await est("simpleenroll", request(), login=None)
    assert asked.status_code == 401
    assert asked.headers["www-authenticate"] == 'Basic realm="default", charset="UTF-8"'
    assert est.enrollment.refusals is not None
    assert est.enrollment.refusals.waiting == 0
    wrong = await est("simpleenroll", request(), login=(USER, "wrong"))
    assert (wrong.status_code, wrong.text.partition(":")[0]) == (401, "credential-unknown")
    assert est.enrollment.refusals.waiting == 1


@pytest.mark.parametrize(
    "header", ["Basic", "Basic !!!", "Bearer abc", "Basic bm9jb2xvbg==", "Basic /w==", "basic " + "A" * 5000]
)
async def test_an_authorization_that_is_none_is_refused(est: Est, header: str) -> None:
    await est.endpoint()
    transport = httpx.ASGITransport(app=Starlette(routes=routes(est.enrollment)))
    async with httpx.AsyncClient(transport=transport, base_url="https://est.example") as client:
        answer = await client.post(
            "/.well-known/est/simpleenroll", content=base64.b64encode(request()), headers={"authorization": header}
        )
    assert (answer.status_code, answer.text.partition(":")[0]) == (401, "authorization-unreadable")


async def test_a_bound_password_asks_only_for_its_name(est: Est) -> None:
    endpoint = await est.endpoint()
    await est.credential(endpoint, name="one", bound=Bound(subject="CN=one"))
    login = ("one", PASSWORD)
    assert (await est("simpleenroll", request("CN=one"), login=login)).status_code == 200
    refused = await est("simpleenroll", request("CN=two"), login=login)
    assert (refused.status_code, refused.text.partition(":")[0]) == (422, "name-not-allowed")


async def test_a_password_for_one_use_gives_one_certificate_however_often_it_is_asked_for(est: Est) -> None:
    endpoint = await est.endpoint()
    await est.credential(endpoint, name="once", uses=1)
    login, csr = ("once", PASSWORD), request("CN=once")
    first = await est.enrolled(csr, login=login)
    assert await est.enrolled(csr, login=login) == first  # the answer was lost
    refused = await est("simpleenroll", request("CN=once"), login=login)
    assert (refused.status_code, refused.text.partition(":")[0]) == (401, "credential-unknown")


async def test_a_holder_renews_his_certificate_and_nothing_else(est: Est) -> None:
    await est.endpoint()
    old = await est.enrolled(request("CN=device", dns=["device.example"]))
    est.chain = [octets(old)]
    new = await est.enrolled(request("CN=device", dns=["device.example"]), "simplereenroll", login=None)
    silent = await est.enrolled(request("CN=device"), "simplereenroll", login=None)
    for made in (new, silent):
        assert made.subject == old.subject
        assert made.extensions.get_extension_for_class(x509.SubjectAlternativeName) == (
            old.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        )
    for other in (request("CN=other"), request("CN=device", dns=["other.example"]),
                  request("CN=device", dns=["device.example", "other.example"])):  # fmt: skip
        refused = await est("simplereenroll", other, login=None)
        assert (refused.status_code, refused.text.partition(":")[0]) == (422, "names-changed")


async def test_nobody_takes_the_account_of_somebody_else(est: Est) -> None:
    await est.endpoint()
    other = await est.endpoint("bound", profile="est-non-repudiation")
    await est.credential(other, name="limited", bound=Bound(subject="CN=device"))
    plain, claiming = request("CN=device"), request("CN=device", sid="S-1-5-21-1-2-3-500")
    refused = await est("bound/simpleenroll", claiming, login=("limited", PASSWORD))
    assert (refused.status_code, refused.text.partition(":")[0]) == (422, "name-not-allowed")
    est.chain = [octets(await est.enrolled(plain))]
    for operation in ("simpleenroll", "simplereenroll"):
        refused = await est(operation, claiming, login=None)
        assert (refused.status_code, refused.text.partition(":")[0]) == (422, "name-not-allowed")
        assert (await est(operation, plain, login=None)).status_code == 200


async def test_what_is_revoked_expired_or_of_another_profile_is_not_renewed(est: Est) -> None:
    endpoint = await est.endpoint()
    other = await est.endpoint("other", profile="est-non-repudiation")
    csr = request("CN=device")
    foreign, old = await est.enrolled(csr, "other/simpleenroll"), await est.enrolled(csr)
    est.chain = [octets(foreign)]
    refused = await est("simplereenroll", csr, login=None)
    assert (refused.status_code, refused.text.partition(":")[0]) == (422, "certificate-other-profile")
    assert (await est("other/simplereenroll", csr, login=None)).status_code == 200
    est.chain = [octets(old)]
    with clock.frozen(old.not_valid_after_utc + timedelta(seconds=1)):
        late = await est("simplereenroll", csr, login=None)
    assert late.text.partition(":")[0] == "client-certificate-expired"
    serial = old.serial_number.to_bytes(20, "big")
    somebody = Applicant("somebody", "none", "")
    await pipeline.revoke(est.enrollment, endpoint, somebody, serial, RevocationReason.KEY_COMPROMISE)
    revoked = await est("simplereenroll", csr, login=None)
    assert (revoked.status_code, revoked.text.partition(":")[0]) == (401, "certificate-revoked")
    assert other.profile == "est-non-repudiation"


async def test_renewing_by_password_is_for_those_whom_the_endpoint_lets(est: Est) -> None:
    await est.endpoint()
    await est.endpoint("lax", profile="est-non-repudiation", options={"renewal_without_certificate": True})
    csr = request("CN=device")
    strict = await est("simplereenroll", csr)
    assert (strict.status_code, strict.text.partition(":")[0]) == (401, "client-certificate-required")
    old = await est.enrolled(csr, "lax/simpleenroll")
    new = await est.enrolled(csr, "lax/simplereenroll")
    assert old.subject == new.subject
    unknown = await est("lax/simplereenroll", request("CN=unknown"))
    assert (unknown.status_code, unknown.text.partition(":")[0]) == (404, "subject-unknown")


async def test_a_certificate_of_a_manufacturer_enrols_for_its_own_name(est: Est) -> None:
    maker = Issuer("maker", at=clock.now())
    options = {"authentication": "certificate", "trusted": [pem(maker.certificate)]}
    await est.endpoint(options=options)
    await est.endpoint("any", profile="est-non-repudiation", options={**options, "certificate_names": "any"})
    est.chain = [maker.device("serial-4711"), maker.certificate]
    refused = await est("simpleenroll", request("CN=other"))
    assert (refused.status_code, refused.text.partition(":")[0]) == (422, "name-not-allowed")
    assert (await est.enrolled(request("CN=serial-4711"))).subject.rfc4514_string() == "CN=serial-4711"
    assert (await est.enrolled(request("CN=other"), "any/simpleenroll")).subject.rfc4514_string() == "CN=other"
    est.chain = [Issuer("maker", at=clock.now()).device("serial-4711")]
    forged = await est("simpleenroll", request("CN=serial-4711"))
    assert (forged.status_code, forged.text.partition(":")[0]) == (403, "certificate-untrusted")


async def test_an_endpoint_for_certificates_asks_nobody_for_a_password(est: Est) -> None:
    await est.endpoint(options={"authentication": "certificate"})
    for login in (None, (USER, PASSWORD)):
        refused = await est("simpleenroll", request(), login=login)
        assert (refused.status_code, refused.text.partition(":")[0]) == (403, "client-certificate-required")
        assert "www-authenticate" not in refused.headers


async def test_a_revoked_certificate_is_a_refusal_though_a_password_would_help(est: Est) -> None:
    endpoint = await est.endpoint()
    old = await est.enrolled(request("CN=device"))
    est.chain = [octets(old)]
    serial = old.serial_number.to_bytes(20, "big")
    somebody = Applicant("somebody", "none", "")
    await pipeline.revoke(est.enrollment, endpoint, somebody, serial, RevocationReason.KEY_COMPROMISE)
    refused = await est("simpleenroll", request("CN=device"), login=None)
    assert (refused.status_code, refused.text.partition(":")[0]) == (401, "certificate-revoked")
    assert est.enrollment.refusals is not None
    assert est.enrollment.refusals.waiting == 1
    assert (await est("simpleenroll", request("CN=device"))).status_code == 200


async def test_a_certificate_of_nobody_known_does_not_hinder_a_password(est: Est) -> None:
    await est.endpoint()
    est.chain = [Issuer("somebody", at=clock.now()).device()]
    asked = await est("simpleenroll", request(), login=None)
    assert (asked.status_code, "www-authenticate" in asked.headers) == (401, True)
    assert (await est("simpleenroll", request())).status_code == 200


async def test_both_means_both(est: Est) -> None:
    await est.endpoint("birth", profile="est-non-repudiation")
    await est.endpoint(options={"authentication": "both", "certificate_names": "any", "trusted": [await est.issuer()]})
    csr = request("CN=device")
    born = await est.enrolled(csr, "birth/simpleenroll")
    assert (await est("simpleenroll", csr)).text.partition(":")[0] == "client-certificate-required"
    est.chain = [octets(born)]
    assert (await est("simpleenroll", csr, login=None)).status_code == 401
    assert (await est("simpleenroll", csr)).status_code == 200


async def test_a_request_is_bound_to_its_connection_where_that_is_asked_for(est: Est) -> None:
    await est.endpoint(options={"link_to_connection": "required"})
    await est.endpoint("lax", profile="est-non-repudiation")
    est.bindings = [b"exporter value", b"finished"]
    right = request(challenge=base64.b64encode(b"finished").decode())
    wrong = request(challenge=base64.b64encode(b"another").decode())
    for operation, csr, status in (
        ("simpleenroll", right, 200),
        ("simpleenroll", wrong, 403),
        ("simpleenroll", request(), 403),
        ("simpleenroll", request(challenge="not base64!"), 403),
        ("lax/simpleenroll", right, 200),
        ("lax/simpleenroll", wrong, 403),
        ("lax/simpleenroll", request(), 200),
    ):
        assert (await est(operation, csr)).status_code == status
    est.bindings = []
    assert (await est("simpleenroll", request(challenge=""))).status_code == 403


async def test_a_key_that_is_made_here_may_be_encrypted_to_the_client(est: Est) -> None:
    await est.endpoint(options={"server_keys": True})
    key = rsa.generate_private_key(65537, 2048)
    device = await est.enrolled(request("CN=device", key=key))  # type: ignore[arg-type]
    est.chain = [octets(device)]
    named = device.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    wanted = with_attribute("1.2.840.113549.1.9.16.2.54", der.octet_string(named))
    answer = await est("serverkeygen", wanted, login=None)
    assert answer.status_code == 200, answer.text
    enveloped, chain = parts(answer.headers["content-type"], answer.content)
    inner = read_enveloped(enveloped).decrypt(key, read_certificate(octets(device)))
    package = read_signed_data(content_info(SIGNED_DATA, inner))
    (certificate,) = pkcs7.load_der_pkcs7_certificates(chain)
    package.verify(read_certificate(octets(certificate)))
    assert package.content is not None
    made = load_der_private_key(der.read_tlv(package.content).content, None)
    assert made.public_key() == certificate.public_key()
    other = with_attribute("1.2.840.113549.1.9.16.2.54", der.octet_string(b"other"))
    assert (await est("serverkeygen", other, login=None)).text.partition(":")[0] == "decrypt-key-unknown"
    shared = with_attribute("1.2.840.113549.1.9.16.2.37", der.octet_string(b"key-1"))
    assert (await est("serverkeygen", shared, login=None)).status_code == 501


async def test_keys_are_made_only_where_that_is_switched_on(est: Est) -> None:
    await est.endpoint()
    refused = await est("serverkeygen", request())
    assert (refused.status_code, refused.text.partition(":")[0]) == (403, "server-keys-off")
    await est.endpoint("manual", profile="est-non-repudiation", approval="manual", options={"server_keys": True})
    waits = await est("manual/serverkeygen", request())
    assert (waits.status_code, waits.text.partition(":")[0]) == (422, "server-keys-need-automatic-approval")


async def test_a_key_is_of_the_kind_that_the_endpoint_says(est: Est) -> None:
    await est.endpoint(options={"server_keys": True, "server_key_algorithm": "P-384"})
    answer = await est("serverkeygen", request())
    key, chain = parts(answer.headers["content-type"], answer.content)
    made = load_der_private_key(key, None)
    assert getattr(made, "curve").name == "secp384r1"  # noqa: B009 - a private key of any kind
    assert pkcs7.load_der_pkcs7_certificates(chain)[0].public_key() == made.public_key()


async def test_a_request_may_come_inside_of_cmc(est: Est) -> None:
    await est.endpoint()
    device_key = new_key()
    csr = request("CN=device", key=device_key)
    est.chain = [octets(await est.enrolled(csr))]
    holder = read_certificate(est.chain[0])
    body = der.sequence(
        der.sequence(),
        der.sequence(der.explicit(0, der.integer(1) + csr)),
        der.sequence(),
        der.sequence(),
    )
    message = sign(body, holder, device_key, content_type="1.3.6.1.5.5.7.12.2")
    made = await est.enrolled(message, "fullcmc", login=None)
    assert made.subject.rfc4514_string() == "CN=device"
    forged = sign(body, holder, new_key(), content_type="1.3.6.1.5.5.7.12.2")
    assert (await est("fullcmc", forged, login=None)).text.partition(":")[0] == "cms-signature-invalid"
    plain = sign(b"no PKIData", holder, device_key)
    assert (await est("fullcmc", plain, login=None)).text.partition(":")[0] == "cmc-unparsable"
    requests = der.sequence(*[der.explicit(0, der.integer(1) + csr)] * 2)
    two = der.sequence(der.sequence(), requests, der.sequence(), der.sequence())
    both = sign(two, holder, device_key, content_type="1.3.6.1.5.5.7.12.2")
    assert (await est("fullcmc", both, login=None)).status_code == 501


async def test_what_does_not_exist_is_not_found(est: Est) -> None:
    await est.endpoint()
    for path in ("nothing", "default/nothing", "nowhere/cacerts", "/est/main/demo~root/est-digital-signature/cacerts"):
        assert (await est(path)).status_code == 404
    wrong = await est("cacerts", b"\x30\x00")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET")
    assert (await est("simpleenroll")).status_code == 405


async def test_requests_are_counted(est: Est) -> None:
    await est.endpoint()
    labels = ("est", "main", "demo~issuing", "default", "simpleenroll")
    before = {outcome: metrics.requests.labels(*labels, outcome)._value.get() for outcome in ("granted", "refused")}
    await est.enrolled(request())
    await est("simpleenroll", b"\x30\x00")
    after = {outcome: metrics.requests.labels(*labels, outcome)._value.get() for outcome in ("granted", "refused")}
    assert {outcome: after[outcome] - before[outcome] for outcome in before} == {"granted": 1, "refused": 1}


async def test_clients_that_nothing_is_asked_of_are_told_so(est: Est) -> None:
    await est.endpoint()
    assert (await est("csrattrs")).status_code == 204


def parts(kind: str, body: bytes) -> tuple[bytes, bytes]:
    """Both parts of an answer, decoded."""
    message = email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body, policy=email.policy.default)
    first, second = (part.get_payload(decode=True) for part in message.iter_parts())  # type: ignore[attr-defined]
    return first, second


def with_attribute(oid: str, value: bytes) -> bytes:
    """A request with an attribute of any kind."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name.from_rfc4514_string("CN=device"))
    key = new_key()
    attribute = der.sequence(der.oid(oid), der.set_of(value))
    plain = builder.sign(key, hashes.SHA256())
    fields = der.children(der.read_tlv(plain.tbs_certrequest_bytes).content)
    info = der.sequence(*(each.der for each in fields[:3]), der.explicit(0, attribute))
    signature = key.sign(info, ec.ECDSA(hashes.SHA256()))
    algorithm = der.children(der.read_tlv(plain.public_bytes(Encoding.DER)).content)[1].der
    return der.sequence(info, algorithm, der.bit_string(signature))
