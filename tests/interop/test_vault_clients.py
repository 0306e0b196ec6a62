"""Clients of HashiCorp Vault against our interface: hvac, curl, and cert-manager's requests one by one."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import hvac
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hvac.exceptions import Forbidden, InvalidRequest
from tests.interop.automation import Domain, once
from tests.support.product import Product
from tests.support.programs import run


@pytest.fixture(scope="module")
def domain(product: Product, tmp_path_factory: pytest.TempPathFactory) -> Domain:
    return Domain.create(product, "vaulted", tmp_path_factory.mktemp("vaulted"))


@pytest.fixture(scope="module")
def payments(domain: Domain) -> str:
    return domain.service("payments", "--dns", "payments.vaulted.example")


@pytest.fixture
def secret(domain: Domain, payments: str, tmp_path: Path) -> str:
    """A secret id for ``payments``, good any number of times."""
    return domain.token(payments, tmp_path / "secret", "--purpose", "approle", "--unlimited").read_text()


@pytest.fixture
def client(domain: Domain, secret: str) -> hvac.Client:
    """hvac, logged in by secret id."""
    made = hvac.Client(url=domain.url, verify=str(domain.ca))
    made.auth.approle.login("payments", secret)
    return made


def _request(folder: Path, *options: str) -> str:
    """A certificate request made by openssl."""
    run(
        "openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-keyout", folder / "key.pem", "-out", folder / "csr.pem", *options,
    )  # fmt: skip
    return (folder / "csr.pem").read_text()


def test_hvac_signs_issues_and_revokes(client: hvac.Client, domain: Domain, tmp_path: Path) -> None:
    assert client.is_authenticated()
    csr = _request(tmp_path, "-subj", "/CN=payments/OU=administrators")
    mount = domain.name
    signed = client.secrets.pki.sign_certificate("payments", csr, "payments", {"ttl": "12h"}, mount_point=mount)["data"]
    (tmp_path / "leaf.pem").write_text(signed["certificate"])
    (tmp_path / "root.pem").write_text(signed["ca_chain"][-1])
    (tmp_path / "chain.pem").write_text("\n".join(signed["ca_chain"]))
    said = run("openssl", "verify", "-CAfile", tmp_path / "root.pem", "-untrusted", tmp_path / "chain.pem",
               tmp_path / "leaf.pem")  # fmt: skip
    assert "OK" in said
    subject = run("openssl", "x509", "-in", tmp_path / "leaf.pem", "-noout", "-subject")
    assert "OU = shop" in subject or "OU=shop" in subject
    issued = client.secrets.pki.generate_certificate("payments", "payments", mount_point=mount)["data"]
    key = load_pem_private_key(issued["private_key"].encode(), None)
    certificate = x509.load_pem_x509_certificate(issued["certificate"].encode())
    assert key.public_key() == certificate.public_key()
    revoked = client.secrets.pki.revoke_certificate(signed["serial_number"], mount_point=mount)
    assert revoked["data"]["revocation_time"] > 0
    ca = client.secrets.pki.read_ca_certificate(mount_point=mount)
    assert x509.load_pem_x509_certificate(ca.encode()).subject == certificate.issuer
    chain = client.secrets.pki.read_ca_certificate_chain(mount_point=mount)
    assert chain.count("BEGIN CERTIFICATE") == 2
    crl = client.secrets.pki.read_crl(mount_point=mount)
    assert "X509 CRL" in crl


def test_hvac_reads_our_refusals(client: hvac.Client, domain: Domain, tmp_path: Path) -> None:
    csr, mount = _request(tmp_path, "-subj", "/CN=x"), domain.name
    with pytest.raises(InvalidRequest, match="dns-name-not-registered"):
        client.secrets.pki.sign_certificate("payments", csr, "www.example.com", mount_point=mount)
    with pytest.raises(Forbidden, match="role-foreign"):
        client.secrets.pki.sign_certificate("admin", csr, "payments", mount_point=mount)
    with pytest.raises(Forbidden, match="sign-verbatim-refused"):
        client.secrets.pki.sign_verbatim(csr, "payments", mount_point=mount)
    long = client.secrets.pki.sign_certificate("payments", csr, "payments", {"ttl": "2160h"}, mount_point=mount)
    assert "PT72H" in long["warnings"][0]


def test_a_token_is_looked_up_renewed_and_revoked(client: hvac.Client) -> None:
    assert client.auth.token.lookup_self()["data"]["meta"]["role"] == "payments"
    assert client.auth.token.renew_self(increment="30s")["auth"]["lease_duration"] <= 30
    client.auth.token.revoke_self()
    assert not client.is_authenticated()
    health = client.sys.read_health_status(method="GET")
    assert health["initialized"] is True
    assert health["sealed"] is False


def test_a_certificate_logs_in(domain: Domain, payments: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert once(domain, out, "--token-file", domain.token(payments, tmp_path / "token")).returncode == 0
    credential = (str(out / "current" / "tls.crt"), str(out / "current" / "tls.key"))
    client = hvac.Client(url=domain.url, verify=str(domain.ca), cert=credential)
    client.auth.cert.login()
    assert client.auth.token.lookup_self()["data"]["meta"]["method"] == "cert"
    domain.product.run("mtls", "revoke", "--identity", payments, "--yes")
    with pytest.raises(Forbidden):
        client.auth.token.lookup_self()


def _curl(domain: Domain, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    """The answer to a request as Go's client of Vault makes it: no content type."""
    options = [part for name, value in headers.items() for part in ("--header", f"{name.replace('_', '-')}: {value}")]
    if body is not None:
        options += ["--data-binary", json.dumps(body), "--header", "Content-Type:"]
    said = run(
        "curl", "--silent", "--show-error", "--cacert", domain.ca, "--request", method, *options,
        "--write-out", "\n%{http_code}", f"{domain.url}{path}",
    )  # fmt: skip
    content, _, status = said.rpartition("\n")
    return int(status), json.loads(content)


def test_the_requests_of_cert_manager_one_by_one(domain: Domain, payments: str, secret: str, tmp_path: Path) -> None:
    """As the Vault issuer of cert-manager makes them for the resources we generate: health, AppRole login, sign."""
    written = domain.product.run("mtls", "identity", "cert-manager", payments, "--lifetime", "PT24H")
    issuer, wanted = (each["spec"] for each in yaml.safe_load_all(written))
    vault = issuer["vault"]
    assert vault["server"].startswith("https://")
    assert "BEGIN CERTIFICATE" in base64.b64decode(vault["caBundle"]).decode()
    status, health = _curl(domain, "GET", "/v1/sys/health", X_Vault_Request="true")
    assert (status, health["initialized"], health["sealed"]) == (200, True, False)
    role = vault["auth"]["appRole"]
    login = {"role_id": role["roleId"], "secret_id": secret}
    status, found = _curl(domain, "POST", f"/v1/auth/{role['path']}/login", login, X_Vault_Request="true")
    assert status == 200
    token = found["auth"]["client_token"]
    assert token
    names = ",".join([f"DNS:{name}" for name in wanted["dnsNames"]] + [f"URI:{uri}" for uri in wanted["uris"]])
    csr = _request(tmp_path, "-subj", f"/CN={wanted['commonName']}", "-addext", f"subjectAltName={names}")
    parameters = {
        "common_name": wanted["commonName"],
        "alt_names": ",".join(wanted["dnsNames"]),
        "ip_sans": "",
        "uri_sans": ",".join(wanted["uris"]),
        "ttl": "24h0m0s",
        "csr": csr,
        "exclude_cn_from_sans": "true",
    }
    path = f"/v1/{vault['path']}"
    status, signed = _curl(domain, "POST", path, parameters, X_Vault_Token=token, X_Vault_Request="true")
    assert status == 200, signed
    data = signed["data"]
    leaf = x509.load_pem_x509_certificate(data["certificate"].encode())
    chain = [x509.load_pem_x509_certificate(each.encode()) for each in data["ca_chain"]]
    assert x509.load_pem_x509_certificate(data["issuing_ca"].encode()) == chain[0]
    for child, issuer in zip([leaf, *chain], [*chain, chain[-1]], strict=True):
        child.verify_directly_issued_by(issuer)
    assert leaf.public_key() == x509.load_pem_x509_csr(csr.encode()).public_key()
    certified = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert certified.get_values_for_type(x509.DNSName) == wanted["dnsNames"]
    assert certified.get_values_for_type(x509.UniformResourceIdentifier) == wanted["uris"]
    assert 23.9 < (leaf.not_valid_after_utc - leaf.not_valid_before_utc).total_seconds() / 3600 < 25
    status, refused = _curl(domain, "POST", path, parameters, X_Vault_Token="igv_none", X_Vault_Request="true")
    assert status == 403
    assert list(refused) == ["errors"]
