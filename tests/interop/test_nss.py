"""NSS, the library of Firefox (certutil, pk12util), as relying party and key store."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.interop.conftest import Pki
from tests.support.programs import attempt, run

_SERVER, _CLIENT = "V", "C"


@pytest.fixture
def store(pki: Pki, tmp_path: Path) -> Path:
    """A certificate database that trusts the root and knows the issuing CA."""
    folder = tmp_path / "nss"
    folder.mkdir()
    run("certutil", "-N", "-d", f"sql:{folder}", "--empty-password")
    _add(folder, "root", pki.folder / "root.pem", "CT,,")
    _add(folder, "issuing", pki.folder / "issuing.pem", ",,")
    return folder


def _add(store: Path, name: str, certificate: Path, trust: str) -> None:
    run("certutil", "-A", "-d", f"sql:{store}", "-n", name, "-t", trust, "-a", "-i", certificate)


def _verify(store: Path, name: str, usage: str) -> str:
    return attempt("certutil", "-V", "-d", f"sql:{store}", "-n", name, "-u", usage, "-e").output


def test_certutil_verifies_certificates_for_their_purpose(pki: Pki, store: Path, tmp_path: Path) -> None:
    # certutil still wants keyEncipherment in the RSA certificate of a server, which ECDHE and TLS 1.3 do not need.
    _add(store, "server", pki.enroll(tmp_path, "www.demo.example").certificate, ",,")
    _add(store, "client", pki.enroll(tmp_path, "alice", "privatessl-tls-client").certificate, ",,")
    with_rsa = pki.enroll(tmp_path, "rosa", "privatessl-tls-client", key=("rsa:2048",))
    _add(store, "client-with-rsa", with_rsa.certificate, ",,")
    assert "certificate is valid" in _verify(store, "server", _SERVER)
    assert "certificate is valid" in _verify(store, "client", _CLIENT)
    assert "certificate is valid" in _verify(store, "client-with-rsa", _CLIENT)
    assert "Certificate type not approved for application" in _verify(store, "client", _SERVER)


def test_certutil_refuses_what_the_imported_crl_lists(pki: Pki, store: Path, tmp_path: Path) -> None:
    good, bad = pki.enroll(tmp_path, "good.example"), pki.enroll(tmp_path, "bad.example")
    _add(store, "good", good.certificate, ",,")
    _add(store, "bad", bad.certificate, ",,")
    pki.revoke(bad, tmp_path)
    run("crlutil", "-I", "-d", f"sql:{store}", "-i", tmp_path / "issuing.crl")
    assert "certificate is valid" in _verify(store, "good", _SERVER)
    assert "Peer's Certificate has been revoked" in _verify(store, "bad", _SERVER)


@pytest.mark.parametrize("client", ["alice", "otto"], ids=["modern", "legacy"])
def test_pk12util_imports_client_credentials(pki: Pki, store: Path, client: str) -> None:
    files = ("-i", pki.folder / f"{client}.p12", "-w", pki.folder / f"{client}.password")
    run("pk12util", "-d", f"sql:{store}", "-K", "", *files)
    keys = run("certutil", "-K", "-d", f"sql:{store}")
    assert client in keys
