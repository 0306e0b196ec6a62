"""OpenSSL as requester, relying party and TLS peer."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.interop.conftest import Leaf, Pki
from tests.support.product import eventually
from tests.support.programs import attempt, program, refused, run

_KEYS = {
    "rsa-2048": ("rsa:2048",),
    "ecdsa-p256": ("ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
    "ecdsa-p384": ("ec", "-pkeyopt", "ec_paramgen_curve:P-384"),
    "ecdsa-p521": ("ec", "-pkeyopt", "ec_paramgen_curve:P-521"),
    "rsa-3072": ("rsa:3072",),
}


@pytest.mark.parametrize("key", sorted(_KEYS))
def test_a_request_becomes_a_certificate_that_verifies_strictly(pki: Pki, tmp_path: Path, key: str) -> None:
    leaf = pki.enroll(tmp_path, "www.demo.example", key=_KEYS[key])
    run(
        "openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "www.demo.example",
        "-CAfile", pki.folder / "root.pem", "-untrusted", pki.folder / "issuing.pem", leaf.certificate,
    )  # fmt: skip
    own, certified = run("openssl", "pkey", "-in", leaf.key, "-pubout"), _public_key(leaf)
    assert own == certified


def _public_key(leaf: Leaf) -> str:
    return run("openssl", "x509", "-in", leaf.certificate, "-noout", "-pubkey")


def test_the_certificate_leads_to_issuer_crl_and_responder(pki: Pki, tmp_path: Path) -> None:
    leaf = pki.enroll(tmp_path, "www.demo.example")
    text = run("openssl", "x509", "-in", leaf.certificate, "-noout", "-text")
    assert f"CA Issuers - URI:{pki.public('/aia/interop/issuing/ca.cer')}" in text
    issuer = pki.fetch(pki.public("/aia/interop/issuing/ca.cer"), tmp_path / "ca.cer")
    assert run("openssl", "x509", "-inform", "der", "-in", issuer) == (pki.folder / "issuing.pem").read_text()
    assert f"URI:{pki.public('/crl/interop/issuing/crl.crl')}" in text
    assert run("openssl", "x509", "-in", leaf.certificate, "-noout", "-ocsp_uri").strip() == pki.ocsp


def test_revocation_is_seen_by_crl(pki: Pki, tmp_path: Path) -> None:
    good, bad = pki.enroll(tmp_path, "good.example"), pki.enroll(tmp_path, "bad.example")
    crl = pki.revoke(bad, tmp_path)
    text = run("openssl", "crl", "-in", crl, "-noout", "-text")
    assert "Key Compromise" in text
    assert "X509v3 CRL Number" in text
    assert "X509v3 Authority Key Identifier" in text
    checks = (
        "-x509_strict", "-crl_check_all", "-CAfile", pki.folder / "root.pem", "-untrusted", pki.folder / "issuing.pem",
        "-CRLfile", crl, "-CRLfile", pki.crl(tmp_path, "root"),
    )  # fmt: skip
    run("openssl", "verify", *checks, good.certificate)
    assert "certificate revoked" in refused("openssl", "verify", *checks, bad.certificate)


@pytest.mark.parametrize("digest", ["-sha1", "-sha256"])
@pytest.mark.parametrize("nonce", ["-nonce", "-no_nonce"])
def test_revocation_is_seen_by_ocsp(pki: Pki, tmp_path: Path, digest: str, nonce: str) -> None:
    leaf = pki.enroll(tmp_path, "www.demo.example")
    query = (digest, "-cert", leaf.certificate, nonce)
    assert f"{leaf.certificate}: good" in _ask(pki, *query)
    pki.act(leaf, "HoldAction")
    eventually(lambda: "certificateHold" in _ask(pki, *query), what="the hold is told")
    pki.act(leaf, "UnholdAction")
    eventually(lambda: f"{leaf.certificate}: good" in _ask(pki, *query), what="the release is told")
    pki.act(leaf, "RevokeAction", reason="superseded")
    eventually(lambda: "Reason: superseded" in _ask(pki, *query), what="the revocation is told")
    assert f"{leaf.certificate}: revoked" in _ask(pki, *query)


def test_ocsp_knows_nothing_of_a_serial_number_nobody_issued(pki: Pki) -> None:
    assert "0x1234: unknown" in _ask(pki, "-serial", "0x1234", "-no_nonce")


def _ask(pki: Pki, *query: str | Path) -> str:
    """What the responder says to openssl, which has verified it."""
    told = run(
        "openssl", "ocsp", "-url", pki.ocsp, "-CAfile", pki.folder / "root.pem", "-verify_other",
        pki.folder / "issuing.pem", "-issuer", pki.folder / "issuing.pem", *query,
    )  # fmt: skip
    assert "Response verify OK" in told
    assert "WARNING: no nonce in response" not in told
    return told


def test_ocsp_answers_get_requests(pki: Pki, tmp_path: Path) -> None:
    leaf = pki.enroll(tmp_path, "www.demo.example")
    request, answer = tmp_path / "request.der", tmp_path / "answer.der"
    issuer = ("-issuer", pki.folder / "issuing.pem", "-cert", leaf.certificate)
    run("openssl", "ocsp", *issuer, "-no_nonce", "-reqout", request)
    encoded = quote(base64.b64encode(request.read_bytes()), safe="")
    pki.fetch(f"{pki.ocsp}/{encoded}", answer)
    trust = ("-CAfile", pki.folder / "root.pem", "-verify_other", pki.folder / "issuing.pem")
    assert f"{leaf.certificate}: good" in run("openssl", "ocsp", *issuer, "-respin", answer, *trust)


@pytest.mark.parametrize(("client", "options"), [("alice", ()), ("otto", ("-legacy",))], ids=["modern", "legacy"])
def test_client_credentials_open(pki: Pki, client: str, options: tuple[str, ...]) -> None:
    password = f"file:{pki.folder / f'{client}.password'}"
    opened = run("openssl", "pkcs12", *options, "-in", pki.folder / f"{client}.p12", "-passin", password, "-nodes")
    assert opened.count("BEGIN PRIVATE KEY") == 1
    assert opened.count("BEGIN CERTIFICATE") == 2
    assert f"friendlyName: {client}" in opened


def test_a_legacy_credential_is_what_old_clients_read(pki: Pki) -> None:
    password = f"file:{pki.folder / 'otto.password'}"
    source = ("-in", pki.folder / "otto.p12", "-passin", password)
    described = run("openssl", "pkcs12", "-legacy", "-info", "-noout", *source)
    assert "MAC: sha1" in described
    assert "pbeWithSHA1And3-KeyTripleDES-CBC" in described


def test_client_and_server_of_one_ca_trust_each_other(pki: Pki, tmp_path: Path) -> None:
    server = pki.enroll(tmp_path, "localhost")
    client = pki.enroll(tmp_path, "client.example", "privatessl-tls-client")
    stranger = pki.enroll(tmp_path, "stranger.example", "privatessl-tls-server")
    with _tls_server(pki, server) as address:
        accepted = _connect(pki, address, client)
        assert "Verification: OK" in accepted
        assert "HTTP/1.0 200" in accepted
        # A certificate for servers does not open the door for a client, nor does none at all.
        assert "HTTP/1.0 200" not in _connect(pki, address, stranger)
        assert "HTTP/1.0 200" not in _connect(pki, address, None)


@contextmanager
def _tls_server(pki: Pki, leaf: Leaf) -> Iterator[str]:
    """``openssl s_server`` that insists on a client certificate of the PKI; its address."""
    process = subprocess.Popen(
        [
            program("openssl"), "s_server", "-accept", "127.0.0.1:0", "-www", "-cert", leaf.certificate,
            "-key", leaf.key, "-cert_chain", pki.folder / "issuing.pem", "-CAfile", pki.folder / "chain.pem",
            "-Verify", "2", "-verify_return_error",
        ],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = next(line for line in process.stdout if line.startswith("ACCEPT"))
        yield line.split()[1]
    finally:
        process.kill()
        process.communicate()


def _connect(pki: Pki, address: str, leaf: Leaf | None) -> str:
    credential = () if leaf is None else ("-cert", leaf.certificate, "-key", leaf.key)
    return attempt(
        "openssl", "s_client", "-connect", address, "-servername", "localhost", "-verify_hostname", "localhost",
        "-CAfile", pki.folder / "root.pem", "-verify_return_error", "-ign_eof", *credential,
        stdin=b"GET / HTTP/1.0\r\n\r\n",
    ).output  # fmt: skip
