"""Chains of certificates made by the engine, judged by OpenSSL."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509 as pyca
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from intaglio.asn1 import algorithms
from intaglio.asn1.algorithms import KeyAlgorithm, key_identifier
from intaglio.core.identifiers import new_serial_number
from intaglio.profiles import registry
from intaglio.profiles.engine import IssuanceInput, Issuer, compile_profile
from intaglio.x509.certificates import pem, read_certificate
from intaglio.x509.general_names import GeneralNames
from intaglio.x509.names import Name
from intaglio.x509.requests import parse_request

SERVER_NAMES = GeneralNames.build([("dNSName", "www.host.example"), ("rfc822Name", "a@host.example")])


@dataclass(frozen=True)
class Signer:
    """A CA certificate with its key."""

    certificate: bytes
    key: algorithms.PrivateKey
    issuer: Issuer


def verify(
    tmp_path: Path, trusted: bytes, chain: list[bytes], at: int, *options: str
) -> subprocess.CompletedProcess[str]:
    """``openssl verify`` of the first certificate of ``chain`` with the rest as untrusted ones."""
    names = []
    for number, certificate in enumerate([trusted, *chain]):
        names.append(tmp_path / f"{number}.pem")
        names[-1].write_text(pem(certificate))
    untrusted = [part for name in names[2:] for part in ("-untrusted", str(name))]
    command = ["openssl", "verify", "-x509_strict", "-attime", str(at), *options, "-trusted", str(names[0]), *untrusted]
    return subprocess.run([*command, str(names[1])], capture_output=True, text=True, check=False, timeout=30)


def issue(desk: Any, signer: Signer, profile: str, key: algorithms.PrivateKey, **values: Any) -> bytes:
    request = IssuanceInput(
        **{
            "subject": Name.build([("CN", f"{profile[:50]} subject")]),
            "spki": algorithms.spki(key.public_key()),
            "key_algorithm": algorithms.key_algorithm_of(key),
            "channel": registry.get(profile).channels[0],
            **values,
        }
    )
    prepared = compile_profile(registry.get(profile), signer.issuer).prepare(
        request, serial=new_serial_number(), now=desk.now
    )
    return prepared.assemble(algorithms.sign(signer.key, prepared.tbs))


def ca_below(desk: Any, signer: Signer, profile: str, algorithm: KeyAlgorithm, budget: int | None) -> Signer:
    key = algorithms.generate_private_key(algorithm)
    certificate = issue(desk, signer, profile, key)
    info = read_certificate(certificate)
    issuer = replace(
        signer.issuer,
        subject_der=info.subject.der,
        key_id=key_identifier(info.spki),
        algorithm=algorithm,
        not_before=info.not_before,
        not_after=info.not_after,
        path_budget=budget,
    )
    return Signer(certificate, key, issuer)


@pytest.fixture
def root(desk: Any) -> Signer:
    return Signer(desk.ca.certificate, desk.ca.key, desk.ca.issuer)


def second_after(desk: Any) -> int:
    return int(desk.now.timestamp()) + 1


@pytest.mark.parametrize("algorithm", [KeyAlgorithm.ECDSA_P384, KeyAlgorithm.RSA_2048, KeyAlgorithm.ECDSA_P521])
def test_leaf_below_an_issuing_ca_of_any_key_type_verifies(
    desk: Any, root: Signer, tmp_path: Path, algorithm: KeyAlgorithm
) -> None:
    issuing = ca_below(desk, root, "basic-ca-subord", algorithm, 0)
    leaf = issue(desk, issuing, "privatessl-tls-server", desk.ca.key, san=SERVER_NAMES)
    done = verify(tmp_path, root.certificate, [leaf, issuing.certificate], second_after(desk), "-purpose", "sslserver")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("profile", "purpose"),
    [
        ("privatessl-tls-server", "sslserver"),
        ("privatessl-tls-client", "sslclient"),
        ("mobile-device-p12-digital-signature-client-authentication", "sslclient"),
        ("multiuse-p12-key-encipherment-client-server", "sslserver"),
        ("smime-non-repudiation", "smimesign"),
        ("smime-digital-signature-key-encipherment", "smimesign"),
        ("smime-key-encipherment", "smimeencrypt"),
        ("basic-ocsp", "ocsphelper"),
        ("esim-delivery-tls-server", "sslserver"),
    ],
)
def test_certificate_serves_its_purpose(
    desk: Any, root: Signer, tmp_path: Path, keys: Any, profile: str, purpose: str
) -> None:
    leaf = issue(desk, root, profile, keys(KeyAlgorithm.RSA_2048), san=SERVER_NAMES)
    done = verify(tmp_path, root.certificate, [leaf], second_after(desk), "-purpose", purpose)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("profile", "purpose"),
    [("privatessl-tls-server", "sslclient"), ("privatessl-tls-client", "sslserver"), ("basic-ocsp", "sslserver")],
)
def test_certificate_does_not_serve_another_purpose(
    desk: Any, root: Signer, tmp_path: Path, keys: Any, profile: str, purpose: str
) -> None:
    leaf = issue(desk, root, profile, keys(KeyAlgorithm.RSA_2048), san=SERVER_NAMES)
    assert verify(tmp_path, root.certificate, [leaf], second_after(desk), "-purpose", purpose).returncode != 0


def outside_certificate(signer: Signer, desk: Any, *, ca: bool) -> tuple[bytes, ec.EllipticCurvePrivateKey]:
    """What the firewall or proxy makes with its CA certificate, by its own means."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = pyca.load_der_x509_certificate(signer.certificate)
    name = "outside CA" if ca else "www.visited.example"
    begin = desk.now - timedelta(minutes=1)
    builder = (
        pyca.CertificateBuilder()
        .subject_name(pyca.Name([pyca.NameAttribute(pyca.NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(pyca.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=1))
        .add_extension(pyca.BasicConstraints(ca, None), critical=True)
        .add_extension(pyca.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(pyca.AuthorityKeyIdentifier(signer.issuer.key_id, None, None), critical=False)
        .add_extension(pyca.KeyUsage(True, False, False, False, False, ca, ca, False, False), critical=True)
    )
    if not ca:
        builder = builder.add_extension(pyca.SubjectAlternativeName([pyca.DNSName(name)]), critical=False)
    return builder.sign(signer.key, hashes.SHA256()).public_bytes(Encoding.DER), key  # type: ignore[arg-type]


@pytest.mark.parametrize("profile", ["tlsproxy-ca-subord", "azure-firewall-ca-subord"])
def test_leaf_of_an_external_ca_verifies(desk: Any, root: Signer, tmp_path: Path, profile: str) -> None:
    external = ca_below(desk, root, profile, KeyAlgorithm.ECDSA_P256, 0)
    leaf, _ = outside_certificate(external, desk, ca=False)
    done = verify(tmp_path, root.certificate, [leaf, external.certificate], second_after(desk))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("profile", "accepted"), [("azure-firewall-ca-subord", True), ("tlsproxy-ca-subord", False)])
def test_one_further_ca_fits_below_the_firewall_and_none_below_the_proxy(
    desk: Any, root: Signer, tmp_path: Path, profile: str, accepted: bool
) -> None:
    external = ca_below(desk, root, profile, KeyAlgorithm.ECDSA_P256, 1)
    further, key = outside_certificate(external, desk, ca=True)
    info = read_certificate(further)
    below = Signer(further, key, replace(external.issuer, subject_der=info.subject.der, key_id=info.ski or b""))
    leaf, _ = outside_certificate(below, desk, ca=False)
    done = verify(tmp_path, root.certificate, [leaf, further, external.certificate], second_after(desk))
    assert (done.returncode == 0) == accepted, done.stderr


def test_request_made_by_openssl_becomes_a_certificate_with_the_same_names(desk: Any, tmp_path: Path) -> None:
    key, csr = tmp_path / "key.pem", tmp_path / "request.pem"
    names = "DNS:www.host.example,IP:192.0.2.7,email:a@host.example,URI:https://host.example/,RID:1.2.3.4"
    subprocess.run(
        ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
         "-out", csr, "-subj", "/C=AT/O=Example/OU=Lab/CN=www.host.example", "-addext", f"subjectAltName={names}",
         "-addext", "keyUsage=critical,digitalSignature,keyCertSign", "-addext", "basicConstraints=critical,CA:TRUE",
         "-addext", "extendedKeyUsage=clientAuth", "-addext", "certificatePolicies=1.3.6.1.4.1.99999.1"],
        check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    request = parse_request(csr.read_bytes())
    certificate = desk.issue(
        "est-digital-signature",
        subject=request.subject,
        spki=request.spki,
        key_algorithm=request.key_algorithm,
        san=request.san,
        extensions=request.extensions,
        channel="est",
    )
    extensions = certificate.extensions
    assert certificate.subject.rfc4514_string() == "CN=www.host.example,OU=Lab,O=Example,C=AT"
    assert extensions.get_extension_for_class(pyca.SubjectAlternativeName).value.public_bytes() == request.san.der  # type: ignore[union-attr]
    assert extensions.get_extension_for_class(pyca.BasicConstraints).value.ca is False
    assert not extensions.get_extension_for_class(pyca.KeyUsage).value.key_cert_sign
    assert [oid.dotted_string for oid in extensions.get_extension_for_class(pyca.ExtendedKeyUsage).value] == [
        "1.3.6.1.5.5.7.3.2"
    ]
    assert extensions.get_extension_for_class(pyca.CertificatePolicies)
