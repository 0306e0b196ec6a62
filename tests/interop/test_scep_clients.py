"""SCEP with clients that are not ours: strongSwan, micromdm's scepclient, certmonger's scep-submit, curl and OpenSSL."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import NameOID
from tests.support.pki import NewName, NewPki, Pki, admin, ok

PROFILE = "scep-digital-signature-key-encipherment"


@dataclass(frozen=True)
class Desk:
    """A SCEP endpoint of a PKI, and its challenge password."""

    pki: Pki
    name: str
    profile: str
    challenge: str

    def url(self, listener: str = "public") -> str:
        return self.pki.product.url(listener, f"/scep/main/{self.pki.issuing}/{self.profile}/")

    def change(self, **changes: Any) -> None:
        with admin(self.pki.product) as http:
            ok(http.patch(f"/enrollment/endpoints/scep/{self.name}", json=changes))


def make_desk(pki: Pki, name: str, profile: str = PROFILE, **changes: Any) -> Desk:
    with admin(pki.product) as http:
        wish = {"protocol": "scep", "ca": pki.issuing, "profile": profile, "name": name, **changes}
        ok(http.post("/enrollment/endpoints", json=wish))
        made = ok(http.post(f"/enrollment/endpoints/scep/{name}/credentials", json={"kind": "challenge"}))
    return Desk(pki, name, profile, made.json()["secret"])


@pytest.fixture(scope="session")
def pki(product) -> Pki:
    return Pki.create(product, "scep", profiles=[PROFILE, "privatessl-tls-server"])


@pytest.fixture(scope="session")
def desk(pki: Pki) -> Desk:
    return make_desk(pki, "desk")


def run(*command: object, cwd: Path, input: bytes | None = None, good: bool = True) -> bytes:
    """Output of a program; its exit status has to be as good as expected."""
    done = subprocess.run(list(map(str, command)), cwd=cwd, input=input, capture_output=True, check=False, timeout=60)
    said = f"{done.returncode}: {done.stderr.decode(errors='replace')} {done.stdout[:2000]!r}"
    assert (done.returncode == 0) is good, said
    return done.stdout if good else done.stderr


class StrongSwan:
    """``pki`` in a folder, with the CA certificates that it fetched."""

    def __init__(self, desk: Desk, folder: Path, listener: str = "public") -> None:
        self.desk, self.folder, self.listener = desk, folder, listener
        run(*self._to("--scepca"), "--caout", "ca.crt", "--raout", "ra.crt", "--force", cwd=folder)

    def key(self, name: str = "key.der", *kind: str) -> None:
        made = run("pki", "--gen", *(kind or ("--type", "rsa", "--size", "2048")), cwd=self.folder)
        (self.folder / name).write_bytes(made)

    def enrol(self, host: str, *options: object, key: str = "key.der", good: bool = True) -> bytes:
        authorities = [part for each in sorted(self.folder.glob("ca*.crt")) for part in ("--cacert", each.name)]
        return run(
            *self._to("--scep"), "--in", key, "--dn", f"CN={host}", "--san", host, "--cacert-enc", "ra.crt",
            "--cacert-sig", "ra.crt", *authorities, *options, cwd=self.folder, good=good,
        )  # fmt: skip

    def _to(self, command: str) -> list[str]:
        return ["pki", command, "--url", self.desk.url(self.listener)]


@pytest.fixture(scope="session")
def rsa_desk(product) -> Desk:
    return make_desk(Pki.create(product, "scep-rsa", key_algorithm="RSA-2048", profiles=[PROFILE]), "rsa-desk", options={"legacy": ["des", "sha1"]})


def test_strongswan_enrols(desk: Desk, new_name: NewName, tmp_path: Path) -> None:
    host, client = new_name("strongswan"), StrongSwan(desk, tmp_path)
    client.key()
    certificate = x509.load_der_x509_certificate(client.enrol(host, "--password", desk.challenge))
    assert certificate.issuer == desk.pki.issuer.subject


def scepclient(desk: Desk, host: str, folder: Path, *options: object, listener: str = "public", good: bool = True) -> str:
    """What micromdm's client says; its key and certificate are in ``folder``."""
    said = subprocess.run(
        ["scepclient", "-server-url", desk.url(listener), "-cn", host, "-private-key", "key.pem", "-certificate", "device.pem",
         *map(str, options)],
        cwd=folder, capture_output=True, text=True, check=False, timeout=60, env={**os.environ, "SSL_CERT_FILE": str(desk.pki.anchor_file)},
    )  # fmt: skip
    text = said.stdout + said.stderr
    assert (said.returncode == 0) is good, text + "".join(l for l in desk.pki.product.log.read_text().splitlines(True) if "refused" in l)
    return text


@pytest.mark.parametrize("listener", ["public", "enroll"])
def test_scepclient_enrols_at_a_ca_with_rsa_keys(rsa_desk: Desk, new_name: NewName, tmp_path: Path, listener: str) -> None:
    print(scepclient(rsa_desk, new_name("micromdm"), tmp_path, "-challenge", rsa_desk.challenge, "-debug", listener=listener))
    print(list(tmp_path.iterdir()))


def test_scepclient_renews(desk: Desk, new_name: NewName, tmp_path: Path) -> None:
    desk.change(options={"legacy": ["des", "sha1"]})
    url = desk.url()
    import httpx, hashlib
    bag = httpx.get(url, params={"operation": "GetCACert"}).content
    ra = pkcs7.load_der_pkcs7_certificates(bag)[0]
    fp = ra.fingerprint(hashes.SHA256()).hex()
    host = new_name("micromdm")
    print(scepclient(desk, host, tmp_path, "-challenge", desk.challenge, "-debug", "-ca-fingerprint", fp))
    print(scepclient(desk, host, tmp_path, "-challenge", desk.challenge, "-debug", "-ca-fingerprint", fp))
    print(list(tmp_path.iterdir()))
