"""What certificates say, read back; and everything that must not count as an identity."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from intaglio.asn1 import der
from intaglio.core.errors import InvalidInput
from intaglio.mtls.identities.attributes import OID, read_identity

KEY = ec.generate_private_key(ec.SECP256R1())
URI = "spiffe://prod.example/env/prod/team/finance/svc/payments"


def attributes(
    kind: str = "service", environment: str = "prod", team: str = "finance", roles: tuple[str, ...] = ("reader",)
) -> bytes:
    texts = [kind, environment, team, "payments"]
    listed = der.sequence(*map(der.utf8_string, roles))
    return der.sequence(der.integer(0), *map(der.utf8_string, texts), listed, der.utf8_string("1.0"))


def certificate(value: bytes | None, uris: tuple[str, ...] = (URI,), common_name: str = "payments") -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(KEY.public_key()).serial_number(1)
        .not_valid_before(start).not_valid_after(start + datetime.timedelta(days=1))
    )  # fmt: skip
    if uris:
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if value is not None:
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier(OID), value)
        builder = builder.add_extension(unknown, critical=False)
    return builder.sign(KEY, SHA256()).public_bytes(Encoding.DER)


def test_attributes_and_spiffe_id_make_an_identity() -> None:
    found = read_identity(certificate(attributes()))
    assert (found.uri, found.name, found.domain, found.roles) == (URI, "payments", "prod.example", ("reader",))


@pytest.mark.parametrize(
    "data",
    [
        certificate(None),
        certificate(attributes(), ()),
        certificate(attributes(), (URI, URI.replace("payments", "orders"))),
        certificate(attributes(), ("https://prod.example/env/prod/team/finance/svc/payments",)),
        certificate(attributes(), (URI + "/",)),
        certificate(attributes(), (URI.replace("/svc/", "/user/"),)),
        certificate(attributes(kind="user")),
        certificate(attributes(kind="robot")),
        certificate(attributes(environment="dev")),
        certificate(attributes(team="other")),
        certificate(attributes(), common_name="orders"),
        certificate(attributes(roles=("a",) * 33)),
        certificate(attributes(roles=("a\nb",))),
        certificate(attributes() + b"\x05\x00"),
        certificate(b"\x30\x80"),
        certificate(der.sequence(der.integer(1), *[der.utf8_string("x")] * 6)),
        certificate(der.sequence(der.integer(0), der.utf8_string("x" * 9000))),
    ],
)
def test_certificate_that_contradicts_itself_is_nobody(data: bytes) -> None:
    with pytest.raises(InvalidInput) as refusal:
        read_identity(data)
    assert refusal.value.code == "no-identity"


@given(st.binary(max_size=200))
def test_any_octets_in_the_extension_are_refused_in_one_way(value: bytes) -> None:
    with pytest.raises(InvalidInput) as refusal:
        read_identity(certificate(value))
    assert refusal.value.code == "no-identity"


@given(st.lists(st.text(max_size=20), max_size=6), st.integers(0, 5), st.binary(max_size=4))
def test_attributes_with_wrong_texts_never_crash(texts: list[str], where: int, noise: bytes) -> None:
    try:
        parts = [der.utf8_string(text) for text in texts]
    except UnicodeEncodeError:
        return
    value = der.sequence(der.integer(0), *parts[:where], noise, *parts[where:])
    with pytest.raises(InvalidInput):
        read_identity(certificate(value))
