"""``scep``: certificates by SCEP, against issuance over the REST gateway of the same product."""

from __future__ import annotations

import os
from collections.abc import Sequence

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AttributeOID, NameOID

from bench import load
from bench.figure import Figure
from bench.installation import CA, Installation, installation
from intaglio.asn1 import der
from intaglio.core import clock
from intaglio.enrollment.scep import messages
from intaglio.x509.certificates import CertificateInfo, read_certificate
from intaglio.x509.cms.enveloping import envelop
from intaglio.x509.cms.identifiers import attribute
from intaglio.x509.cms.signed import read_signed_data
from intaglio.x509.cms.signing import sign

SHARE = 0.40
CONNECTIONS = 32
SECONDS = 8.0
PROFILE = "scep-digital-signature-key-encipherment"
#: More than can be answered, for a message that is repeated gets the certificate of before.
MESSAGES = 5000


def measure() -> Figure:
    """32 kept-alive connections over plain HTTP. Every message is a transaction of its own with the static challenge;
    it is verified, decrypted, certified, committed, and its answer encrypted and signed."""
    figure = Figure("scep")
    with installation() as product:
        requests = posts(product, MESSAGES)
        product.enrolments(connections=CONNECTIONS, seconds=2)
        rest = product.enrolments(connections=CONNECTIONS, seconds=SECONDS / 2)
        result = load.run(
            host="127.0.0.1", port=product.runtime.port("public"), requests=requests, connections=CONNECTIONS,
            seconds=SECONDS,
        )  # fmt: skip
        rest_after = product.enrolments(connections=CONNECTIONS, seconds=SECONDS / 2)
        report = product.json("audit", "verify")
    rate = (rest.rate + rest_after.rate) / 2
    wrong = {status: count for status, count in result.statuses.items() if status != "200"}
    note = f"{result.rate:,.0f}/s of {rate:,.0f}/s"
    figure.add("certificates by SCEP / over the REST gateway", result.rate / rate, "", ">=", SHARE, note)
    figure.add("answers other than 200", sum(wrong.values()), "", "<=", 0)
    figure.measured = {"load": result.__dict__, "rest_per_second": rate, "audit": report}
    return figure


def posts(product: Installation, number: int, names: Sequence[str] = ()) -> list[bytes]:
    """An endpoint, and requests to it, each with a message that asks for further ``names``."""
    product.run("ca", "edit", CA, "--add-profile", PROFILE)
    product.run("enroll", "endpoint", "create", "-p", "scep", "--ca", CA, "--profile", PROFILE, "--name", "devices")
    made = product.json("enroll", "credential", "create", "scep/devices", "--kind", "challenge")
    path = f"/scep/main/{CA}/{PROFILE}"
    answer = httpx.get(product.url("public", path), params={"operation": "GetCACert"}, trust_env=False)
    registration = read_certificate(read_signed_data(answer.content).certificates[0])
    url = f"{path}?operation=PKIOperation"
    return [
        load.http_request("POST", url, "localhost", message, "application/octet-stream")
        for message in _messages(registration, made["secret"], number, names)
    ]


def _messages(registration: CertificateInfo, challenge: str, count: int, names: Sequence[str]) -> list[bytes]:
    """PKCSReq of one device under ever new names, as a client encodes them."""
    key = rsa.generate_private_key(65_537, 2048)
    device = _self_signed(key)
    found = []
    for number in range(count):
        attributes = [
            attribute(messages.MESSAGE_TYPE, der.printable_string("19")),
            attribute(messages.TRANSACTION_ID, der.printable_string(os.urandom(16).hex())),
            attribute(messages.SENDER_NONCE, der.octet_string(os.urandom(16))),
        ]
        content = envelop(_request(key, [f"device-{number}.bench.test", *names], challenge), registration)
        found.append(sign(content, device, key, attributes=attributes))
    return found


def _request(key: rsa.RSAPrivateKey, names: Sequence[str], challenge: str) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(names[0]))
    builder = builder.add_attribute(AttributeOID.CHALLENGE_PASSWORD, challenge.encode())
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def _self_signed(key: rsa.RSAPrivateKey) -> CertificateInfo:
    name, now = _name("device"), clock.now()
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now, now.replace(year=2060)
    )
    return read_certificate(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER))


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
