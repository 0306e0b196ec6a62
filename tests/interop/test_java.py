"""Java as relying party and key store: keytool, and a small program on the platform's own path validation."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.interop.conftest import Pki
from tests.support.programs import run

_PROGRAM = Path(__file__).with_name("java") / "RelyingParty.java"
# A relying party of a private PKI lets the runtime follow the addresses in certificates.
_JAVA = ("-Dcom.sun.security.enableCRLDP=true", "-XX:TieredStopAtLevel=1", "-Xshare:auto")


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled program."""
    folder = tmp_path_factory.mktemp("classes")
    run("javac", "-d", folder, _PROGRAM)
    return folder


@pytest.mark.parametrize("key", [("ec", "-pkeyopt", "ec_paramgen_curve:P-256"), ("rsa:2048",)], ids=["ecdsa", "rsa"])
def test_path_validation_sees_the_revocation_by_ocsp_and_by_crl(
    pki: Pki, tmp_path: Path, classes: Path, key: tuple[str, ...]
) -> None:
    good, bad = pki.enroll(tmp_path, "good.example", key=key), pki.enroll(tmp_path, "bad.example", key=key)
    pki.revoke(bad, tmp_path)
    for way in ("ocsp", "crl"):
        told = run(
            "java", *_JAVA, "-cp", classes, "RelyingParty", way, pki.folder / "root.pem", pki.folder / "issuing.pem",
            good.certificate, bad.certificate,
        )  # fmt: skip
        assert "good.example.pem: valid" in told, way
        assert "bad.example.pem: REVOKED at 0" in told, way
        assert "KEY_COMPROMISE" in told, way


@pytest.mark.parametrize("client", ["alice", "otto"], ids=["modern", "legacy"])
def test_a_key_store_opens_client_credentials(pki: Pki, classes: Path, client: str) -> None:
    store, password = pki.folder / f"{client}.p12", pki.folder / f"{client}.password"
    assert f"{client}: EC, chain of 2" in run("java", *_JAVA, "-cp", classes, "RelyingParty", "p12", store, password)


@pytest.mark.parametrize("client", ["alice", "otto"], ids=["modern", "legacy"])
def test_keytool_lists_and_imports_client_credentials(pki: Pki, tmp_path: Path, client: str) -> None:
    store, password = pki.folder / f"{client}.p12", pki.folder / f"{client}.password"
    listed = run("keytool", "-list", "-keystore", store, "-storetype", "PKCS12", "-storepass:file", password)
    assert f"{client}, " in listed
    assert "PrivateKeyEntry" in listed
    mine = tmp_path / "mine.p12"
    run(
        "keytool", "-importkeystore", "-noprompt", "-srckeystore", store, "-srcstoretype", "PKCS12",
        "-srcstorepass:file", password, "-destkeystore", mine, "-deststoretype", "PKCS12", "-deststorepass", "changeit",
    )  # fmt: skip
    described = run("keytool", "-list", "-v", "-keystore", mine, "-storepass", "changeit")
    assert "Certificate chain length: 2" in described
    assert f"CN={client}" in described


def test_keytool_takes_the_answer_to_its_own_request(pki: Pki, tmp_path: Path) -> None:
    store = ("-keystore", tmp_path / "own.p12", "-storepass", "changeit", "-alias", "www")
    request, answer = tmp_path / "www.csr", tmp_path / "www.pem"
    run("keytool", "-genkeypair", *store, "-keyalg", "EC", "-groupname", "secp256r1", "-dname", "CN=www.demo.example")
    run("keytool", "-certreq", *store, "-ext", "SAN=dns:www.demo.example", "-file", request)
    wish = {"profileId": "privatessl-tls-server", "csr": request.read_text(), "requiredFormat": {"format": "PEM"}}
    reply = pki.call(f"/certificate-authorities/{pki.issuing}/enrollments", body=wish)
    assert reply.status == 200, reply.body.decode()
    answer.write_text(reply.json["enrollment"]["body"] + (pki.folder / "chain.pem").read_text())
    run("keytool", "-importcert", "-noprompt", *store, "-file", answer)
    described = run("keytool", "-list", "-v", *store)
    assert "Certificate chain length: 3" in described
    assert "DNSName: www.demo.example" in described
