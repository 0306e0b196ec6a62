"""`intaglio keytool` with GnuTLS, Java and NSS, in both directions."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.interop.test_keytool_openssl import _OTHER, Desk, desk
from tests.support.programs import run

__all__ = ["desk"]  # the fixture

_VARIANTS = ("aes-256", "aes-128", "compatible")


@pytest.fixture
def walked(desk: Desk) -> Desk:
    """The four steps done, with an RSA key that every program understands."""
    desk.walk("rsa-2048")
    for variant in _VARIANTS:
        desk.keytool(
            "p12", "convert", "client.p12", "--old-password-file", "pw2", "--variant", variant, "--password-file",
            "pw2", "--out", f"{variant}.p12",
        )  # fmt: skip
    return desk


def test_gnutls_reads_key_and_pkcs12(walked: Desk) -> None:
    told = run("certtool", "--key-info", "--infile", walked / "client.key", "--password", _read(walked, "pw"))
    assert "2048" in told
    for variant in _VARIANTS:
        told = run("certtool", "--p12-info", "--inder", "--infile", walked / f"{variant}.p12", "--password", _OTHER)
        assert "Encrypted" in told
        assert "BEGIN CERTIFICATE" in told


def test_a_pkcs12_of_gnutls_is_read(walked: Desk) -> None:
    run(
        "certtool", "--to-p12", "--load-privkey", walked / "client.key", "--load-certificate", walked / "client.crt",
        "--p12-name", "alice", "--outder", "--outfile", walked / "gnutls.p12", "--password", _read(walked, "pw"),
    )  # fmt: skip
    found = walked.json("inspect", "gnutls.p12", "--password-file", "pw")
    assert isinstance(found, list)
    assert found[0]["key_algorithm"] == "rsa-2048"
    assert found[0]["friendly_name"] == "alice"


def test_java_lists_every_variant(walked: Desk) -> None:
    for variant in _VARIANTS:
        told = run("keytool", "-list", "-v", "-keystore", walked / f"{variant}.p12", "-storepass:file", walked / "pw2")
        assert "PrivateKeyEntry" in told
        assert "CN=alice" in told


def test_a_pkcs12_of_java_is_read(walked: Desk) -> None:
    run(
        "keytool", "-genkeypair", "-alias", "carol", "-keyalg", "EC", "-groupname", "secp256r1", "-dname", "CN=carol",
        "-storetype", "PKCS12", "-keystore", walked / "java.p12", "-storepass:file", walked / "pw2",
    )  # fmt: skip
    found = walked.json("inspect", "java.p12", "--password-file", "pw2")
    assert isinstance(found, list)
    assert (found[0]["key_algorithm"], found[0]["certificates"][0]["subject"]) == ("ecdsa-p256", "CN=carol")


def test_nss_imports_and_exports(walked: Desk, tmp_path: Path) -> None:
    for variant in _VARIANTS:
        told = run("pk12util", "-l", walked / f"{variant}.p12", "-w", walked / "pw2", cwd=tmp_path)
        assert "CN=alice" in told
    database = tmp_path / "nss"
    database.mkdir()
    where = ("-d", f"sql:{database}")
    run("certutil", "-N", *where, "--empty-password")
    run("pk12util", "-i", walked / "aes-256.p12", *where, "-w", walked / "pw2")
    run("pk12util", "-o", walked / "nss.p12", "-n", "alice", *where, "-w", walked / "pw2")
    found = walked.json("inspect", "nss.p12", "--password-file", "pw2")
    assert isinstance(found, list)
    assert found[0]["key_algorithm"] == "rsa-2048"


def _read(desk: Desk, name: str) -> str:
    return (desk / name).read_text().strip()
