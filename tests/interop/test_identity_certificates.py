"""Certificates of identities as OpenSSL, Java and SPIFFE libraries see them, made as users make them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from jwt import PyJWK
from spiffe import SpiffeId, TrustDomain, X509Bundle, X509Svid
from tests.support.product import Product, eventually
from tests.support.programs import attempt, run


@dataclass(frozen=True)
class Estate:
    """A running product with the trust domains ``prod-interop.example`` and ``dev-interop.example``."""

    product: Product
    folder: Path

    def mtls(self, *arguments: str | Path) -> str:
        return self.product.run("mtls", *arguments)

    def json(self, *arguments: str | Path) -> Any:
        return self.product.json("mtls", *arguments)

    def certificate(self, identity: str, name: str) -> tuple[Path, Path]:
        """Key and certificate file (with its chain) of an identity; key and request are made by OpenSSL."""
        key, request, made = (self.folder / f"{name}.{kind}" for kind in ("key", "csr", "pem"))
        run(
            "openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
            "-out", request, "-subj", "/CN=whatever",
        )  # fmt: skip
        self.mtls("identity", "issue", identity, "--csr", request, "--out", made)
        return key, made


@pytest.fixture(scope="module")
def estate(product: Product) -> Iterator[Estate]:
    with tempfile.TemporaryDirectory(prefix="intaglio-identities-") as name:
        made = Estate(product, Path(name))
        product.run("org", "create", "mtls-interop")
        for environment in ("prod", "dev"):
            domain = f"{environment}-interop.example"
            options = ("--environment", f"{environment}-interop", "--org", "mtls-interop", "--new-ca")
            made.mtls("domain", "create", domain, *options)
            made.mtls("bundle", "export", domain, "--out", made.folder / f"{environment}.pem")
        services = "name,team,roles,dns_names\npayments,finance,reader writer,payments.svc\norders,shop,reader,\n"
        (made.folder / "services.csv").write_text(services)
        domain = ("--domain", "prod-interop.example", "--kind", "service")
        made.mtls("identity", "import", made.folder / "services.csv", *domain)
        yield made


def test_openssl_reads_and_verifies_the_certificate_of_a_service(estate: Estate) -> None:
    _, certificate = estate.certificate("service:payments@prod-interop.example", "payments")
    text = run("openssl", "x509", "-in", certificate, "-noout", "-text")
    uri = "spiffe://prod-interop.example/env/prod-interop/team/finance/svc/payments"
    assert f"URI:{uri}, DNS:payments.svc" in text
    assert "X509v3 Key Usage: critical\n                Digital Signature\n" in text
    for purpose in ("sslclient", "sslserver"):
        verified = run(
            "openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", estate.folder / "prod.pem",
            certificate,
        )  # fmt: skip
        assert verified.strip().endswith("OK")


def test_certificate_of_one_environment_does_not_verify_in_another(estate: Estate) -> None:
    _, certificate = estate.certificate("service:orders@prod-interop.example", "orders")
    refused = attempt("openssl", "verify", "-CAfile", estate.folder / "dev.pem", "-untrusted", certificate, certificate)
    assert refused.status != 0
    assert "self-signed certificate in certificate chain" in refused.output


def test_revoked_certificate_is_refused_by_crl_and_by_ocsp(estate: Estate) -> None:
    _, certificate = estate.certificate("service:orders@prod-interop.example", "doomed")
    serial = run("openssl", "x509", "-in", certificate, "-noout", "-serial").partition("=")[2].strip()
    bundle = estate.folder / "prod.pem"
    issuer = estate.folder / "issuer.pem"
    issuer.write_text("".join(certificate.read_text().partition("-----END CERTIFICATE-----\n")[2:]))
    [issuing] = [each["issuing_ca"] for each in estate.json("domain", "list") if each["name"] == "prod-interop.example"]
    ocsp = estate.product.url("public", f"/ocsp/{issuing.replace('~', '/')}")
    question = ("ocsp", "-issuer", issuer, "-cert", certificate, "-url", ocsp, "-CAfile", bundle)
    assert f"{certificate}: good" in run("openssl", *question)
    assert "Revoked 1 certificate" in estate.mtls("revoke", "--serial", serial, "--reason", "keyCompromise", "--yes")
    eventually(lambda: "revoked" in run("openssl", *question), what="OCSP says revoked")
    crl = estate.folder / "crl.pem"

    def listed() -> bool:
        der = estate.folder / "crl.der"
        address = estate.product.url("public", f"/crl/{issuing.replace('~', '/')}/crl.crl")
        run("curl", "--silent", "--show-error", "--fail", "--output", der, address)
        run("openssl", "crl", "-inform", "der", "-in", der, "-out", crl)
        return serial in run("openssl", "crl", "-in", crl, "-noout", "-text")

    eventually(listed, what="the CRL lists the certificate")
    refused = attempt("openssl", "verify", "-crl_check", "-CRLfile", crl, "-CAfile", bundle, certificate)
    assert "certificate revoked" in refused.output


def test_spiffe_library_takes_certificate_and_bundle(estate: Estate) -> None:
    key, certificate = estate.certificate("service:payments@prod-interop.example", "svid")
    svid = X509Svid.parse(certificate.read_bytes(), key.read_bytes())
    assert svid.spiffe_id == SpiffeId(
        "spiffe://prod-interop.example/env/prod-interop/team/finance/svc/payments"
    )
    bundle = X509Bundle.parse(TrustDomain("prod-interop.example"), (estate.folder / "prod.pem").read_bytes())
    assert len(bundle.x509_authorities) == 2


def test_bundle_endpoint_serves_keys_that_json_web_key_libraries_read(estate: Estate) -> None:
    platform = estate.folder / "platform-ca.pem"
    estate.product.run("tls", "ca-certificate", "--out", platform)
    address = estate.product.url("enroll", "/spiffe/prod-interop.example/bundle.json")
    document = json.loads(run("curl", "--silent", "--show-error", "--fail", "--cacert", platform, address))
    assert document["spiffe_refresh_hint"] > 0
    for entry in document["keys"]:
        assert entry["use"] == "x509-svid"
        assert PyJWK(entry, algorithm="ES256").key.curve.name == "secp256r1"


def test_java_opens_the_trust_stores(estate: Estate) -> None:
    folder = estate.folder / "stores"
    estate.mtls("bundle", "export", "prod-interop", "--format", "jks,p12", "--out", f"{folder}/")
    for kind, store in (("JKS", "prod-interop.jks"), ("PKCS12", "prod-interop.p12")):
        listed = run(
            "keytool", "-list", "-keystore", folder / store, "-storetype", kind, "-storepass", "changeit",
        )  # fmt: skip
        assert listed.count("trustedCertEntry") == 2
        wrong = attempt("keytool", "-list", "-keystore", folder / store, "-storetype", kind, "-storepass", "wrong one")
        assert wrong.status != 0


def test_ca_kept_elsewhere_certifies_names_of_its_trust_domain_only(estate: Estate) -> None:
    folder = estate.folder / "cluster"
    folder.mkdir()
    run(
        "openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key",
        "-out", "ca.csr", "-subj", "/CN=cluster", cwd=folder,
    )  # fmt: skip
    estate.mtls(
        "ca", "subordinate", "dev-interop.example", "--csr", folder / "ca.csr", "--purpose", "cluster 7", "--out",
        folder / "ca.pem", "--yes",
    )  # fmt: skip
    for name, host, fits in (("good", "dev-interop.example", True), ("bad", "prod-interop.example", False)):
        (folder / "ext").write_text(
            f"basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\nsubjectAltName=URI:spiffe://{host}/ns/shop\n"
            "authorityKeyIdentifier=keyid\nkeyUsage=critical,digitalSignature\nsubjectKeyIdentifier=hash\n"
        )
        run(
            "openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
            "leaf.key", "-out", "leaf.csr", "-subj", "/CN=pod", cwd=folder,
        )  # fmt: skip
        run(
            "openssl", "x509", "-req", "-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "1", "-extfile",
            "ext", "-out", f"{name}.pem", cwd=folder,
        )  # fmt: skip
        verified = attempt(
            "openssl", "verify", "-x509_strict", "-CAfile", estate.folder / "dev.pem", "-untrusted", folder / "ca.pem",
            folder / f"{name}.pem",
        )  # fmt: skip
        assert (verified.status == 0) == fits, verified.output
    assert "permitted subtree violation" in verified.output


def test_bundle_endpoint_says_nothing_of_what_does_not_exist(estate: Estate) -> None:
    platform = estate.folder / "platform-ca.pem"
    estate.product.run("tls", "ca-certificate", "--out", platform)
    address = estate.product.url("enroll", "/spiffe/nobody.example/bundle.json")
    answer = run("curl", "--silent", "--show-error", "--cacert", platform, "--write-out", "\n%{http_code}", address)
    body, _, status = answer.rpartition("\n")
    assert (status, json.loads(body)["code"]) == ("404", "domain-unknown")


def test_load_balancer_gets_the_crls_of_all_cas(estate: Estate) -> None:
    folder = estate.folder / "alb"
    estate.mtls("bundle", "export", "dev-interop.example", "--format", "alb", "--out", f"{folder}/")
    requests = json.loads((folder / "add-trust-store-revocations.json").read_text())
    crls = [folder / each["S3Key"] for each in requests["RevocationContents"]]
    assert len(crls) == 2
    for crl in crls:
        verified = run("openssl", "crl", "-in", crl, "-noout", "-CAfile", folder / "trust-store.pem")
        assert "verify OK" in verified
