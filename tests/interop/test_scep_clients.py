"""SCEP with clients that are not ours: strongSwan, micromdm's scepclient, certmonger, and OpenSSL to look at it."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import pkcs7
from tests.support.pki import PLAIN, Issued, NewName, Pki, admin, ok
from tests.support.product import Product, eventually
from tests.support.shown_commands import type_shown

PROFILE = "scep-digital-signature-key-encipherment"
PATIENCE = 60.0
#: What Debian's scepclient encrypts and signs with, whatever the server can do.
OLD = {"legacy": ["des", "sha1"]}


@dataclass(frozen=True)
class Desk:
    """A SCEP endpoint of a PKI, and its challenge password."""

    pki: Pki
    name: str
    challenge: str

    def url(self, listener: str = "public") -> str:
        return self.pki.product.url(listener, f"/scep/main/{self.pki.issuing}/{PROFILE}/")

    def fetch(self, operation: str) -> bytes:
        answer = httpx.get(self.url(), params={"operation": operation}, timeout=PATIENCE, trust_env=False, verify=PLAIN)
        return ok(answer).content

    def approve(self) -> None:
        """Approve the request that waits here."""
        with admin(self.pki.product) as http:

            def waiting() -> list[dict[str, Any]]:
                found = ok(http.get("/enrollment/requests")).json()["items"]
                return [
                    each for each in found if each["endpoint"] == f"scep/{self.name}" and each["state"] == "pending"
                ]

            eventually(lambda: bool(waiting()), what="a request waits")
            ok(http.post(f"/enrollment/requests/{waiting()[0]['id']}/approve", json={}))


def make_desk(pki: Pki, name: str, **changes: Any) -> Desk:
    with admin(pki.product) as http:
        wish = {"protocol": "scep", "ca": pki.issuing, "profile": PROFILE, "name": name, **changes}
        ok(http.post("/enrollment/endpoints", json=wish))
        made = ok(http.post(f"/enrollment/endpoints/scep/{name}/credentials", json={"kind": "challenge"}))
    return Desk(pki, name, made.json()["secret"])


@pytest.fixture(scope="module")
def desk(product: Product) -> Desk:
    """At a CA with EC keys; certificates are superseded when they are renewed."""
    pki = Pki.create(product, "scep-ec", profiles=[PROFILE])
    return make_desk(pki, "scep-ec", options={"revoke_on_renewal": True})


@pytest.fixture(scope="module")
def old_desk(product: Product) -> Desk:
    """At a CA with RSA keys; old algorithms are accepted."""
    pki = Pki.create(product, "scep-rsa", key_algorithm="RSA-2048", profiles=[PROFILE])
    return make_desk(pki, "scep-rsa", options=OLD)


def run(*command: object, cwd: Path, good: bool = True, **environment: str) -> bytes:
    """Output of a program that succeeds; what it complains of when it is to fail."""
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, capture_output=True, check=False, timeout=2 * PATIENCE,
        env={**os.environ, **environment},
    )  # fmt: skip
    said = f"{done.returncode}: {done.stderr.decode(errors='replace')} {done.stdout[:2000]!r}"
    assert (done.returncode == 0) is good, said
    return done.stdout if good else done.stderr


# ---- strongSwan ------------------------------------------------------------------------------------------------------


class StrongSwan:
    """``pki`` in a folder with the CA certificates that it fetched, and a key."""

    def __init__(self, desk: Desk, folder: Path) -> None:
        self.url, self.folder = desk.url(), folder
        run("pki", "--scepca", "--url", self.url, "--caout", "ca.crt", "--raout", "ra.crt", cwd=folder)
        self.new_key("key.der")

    def new_key(self, name: str) -> None:
        made = run("pki", "--gen", "--type", "rsa", "--size", "2048", cwd=self.folder)
        (self.folder / name).write_bytes(made)

    def enrol(self, host: str, *options: object, key: str = "key.der", good: bool = True) -> bytes:
        authorities = [part for each in sorted(self.folder.glob("ca*.crt")) for part in ("--cacert", each.name)]
        return run(
            "pki", "--scep", "--url", self.url, "--in", key, "--dn", f"CN={host}", "--san", host,
            "--cacert-enc", "ra.crt", "--cacert-sig", "ra.crt", *authorities, *options, cwd=self.folder, good=good,
        )  # fmt: skip


def test_strongswan_enrols_and_renews(desk: Desk, new_name: NewName, tmp_path: Path) -> None:
    host, client = new_name("strongswan"), StrongSwan(desk, tmp_path)
    first = client.enrol(host, "--password", desk.challenge)
    certificate = x509.load_der_x509_certificate(first)
    certificate.verify_directly_issued_by(desk.pki.issuer)
    assert _names(certificate) == [host]

    (tmp_path / "first.crt").write_bytes(first)
    client.new_key("second.der")
    renewed = x509.load_der_x509_certificate(
        client.enrol(host, "--cert", "first.crt", "--key", "key.der", key="second.der")
    )
    assert renewed.public_key() != certificate.public_key()
    assert _names(renewed) == [host]
    status = desk.pki.ocsp(Issued(f"{certificate.serial_number:X}", first))
    assert status.revocation_reason is x509.ReasonFlags.superseded


def test_strongswan_is_told_that_the_challenge_is_wrong(desk: Desk, new_name: NewName, tmp_path: Path) -> None:
    complaint = StrongSwan(desk, tmp_path).enrol(new_name(), "--password", "wrong", good=False)
    assert b"badRequest" in complaint


def test_strongswan_waits_for_approval(desk: Desk, new_name: NewName, tmp_path: Path) -> None:
    pki = Pki.create(desk.pki.product, "scep-slow", profiles=[PROFILE])
    slow = make_desk(pki, "scep-slow", approval="manual")
    host, client = new_name("patient"), StrongSwan(slow, tmp_path)
    with ThreadPoolExecutor(1) as pool:
        enrolled = pool.submit(
            client.enrol, host, "--password", slow.challenge, "--interval", 1, "--maxpolltime", int(PATIENCE)
        )
        slow.approve()
        assert _names(x509.load_der_x509_certificate(enrolled.result())) == [host]


@pytest.mark.parametrize("options", [("--digest", "sha512"), ("--digest", "sha384")])
def test_strongswan_signs_with_longer_digests(
    desk: Desk, new_name: NewName, tmp_path: Path, options: tuple[str, ...]
) -> None:
    host = new_name("digest")
    enrolled = StrongSwan(desk, tmp_path).enrol(host, "--password", desk.challenge, *options)
    assert _names(x509.load_der_x509_certificate(enrolled)) == [host]


def test_triple_des_is_refused_until_it_is_allowed(desk: Desk, new_name: NewName, tmp_path: Path) -> None:
    client, options = StrongSwan(desk, tmp_path), ("--password", desk.challenge, "--cipher", "des3")
    assert b"badAlg" in client.enrol(new_name(), *options, good=False)
    with admin(desk.pki.product) as http:
        ok(http.patch(f"/enrollment/endpoints/scep/{desk.name}", json={"options": {"legacy": ["3des"]}}))
    try:
        assert x509.load_der_x509_certificate(client.enrol(new_name(), *options))
    finally:
        with admin(desk.pki.product) as http:
            ok(http.patch(f"/enrollment/endpoints/scep/{desk.name}", json={"options": {"legacy": []}}))


# ---- micromdm --------------------------------------------------------------------------------------------------------


def scepclient(desk: Desk, host: str, folder: Path, *options: object, listener: str = "public") -> x509.Certificate:
    """What micromdm's client gets; its key and certificate are in ``folder``."""
    run(
        "scepclient", "-server-url", desk.url(listener), "-cn", host, "-private-key", "key.pem",
        "-certificate", "device.pem", *options, cwd=folder, SSL_CERT_FILE=str(desk.pki.anchor_file),
    )  # fmt: skip
    return x509.load_pem_x509_certificate((folder / "device.pem").read_bytes())


@pytest.mark.parametrize("listener", ["public", "enroll"])
def test_scepclient_enrols_and_renews(old_desk: Desk, new_name: NewName, tmp_path: Path, listener: str) -> None:
    host = new_name("micromdm")
    enrolled = scepclient(old_desk, host, tmp_path, "-challenge", old_desk.challenge, listener=listener)
    enrolled.verify_directly_issued_by(old_desk.pki.issuer)
    renewed = scepclient(old_desk, host, tmp_path, "-challenge", old_desk.challenge, listener=listener)
    assert renewed.serial_number != enrolled.serial_number
    assert renewed.subject == enrolled.subject


def test_scepclient_enrols_at_a_ca_with_ec_keys(desk: Desk, new_name: NewName, tmp_path: Path) -> None:
    with admin(desk.pki.product) as http:
        wish = {"protocol": "scep", "ca": desk.pki.issuing, "profile": PROFILE, "name": "other", "tenant": "branch"}
        ok(http.post("/enrollment/tenants", json={"name": "branch"}))
        ok(http.post("/enrollment/endpoints", json={**wish, "options": OLD}))
        made = ok(http.post("/enrollment/endpoints/scep/other/credentials", json={"kind": "one-time"})).json()
    url = desk.pki.product.url("public", f"/scep/branch/{desk.pki.issuing}/{PROFILE}")
    # It encrypts for every certificate unless it is told for which, and knows RSA only.
    registration = _bag(desk.fetch("GetCACert"))[0]
    run(
        "scepclient", "-server-url", url, "-cn", new_name("ec"), "-private-key", "key.pem",
        "-certificate", "device.pem", "-challenge", made["secret"],
        "-ca-fingerprint", registration.fingerprint(hashes.SHA256()).hex(), cwd=tmp_path,
    )  # fmt: skip
    enrolled = x509.load_pem_x509_certificate((tmp_path / "device.pem").read_bytes())
    enrolled.verify_directly_issued_by(desk.pki.issuer)


# ---- certmonger ------------------------------------------------------------------------------------------------------

_CERTMONGER = r"""
set -eu
getcert add-scep-ca -s -c gateway -u "$URL"
getcert request -s -c gateway -I device -k "$PWD/key.pem" -f "$PWD/device.pem" -N "CN=$HOST_NAME" -D "$HOST_NAME" \
    -G rsa -g 2048 -L "$CHALLENGE" -w -v
cp device.pem first.pem
getcert rekey -s -i device -w -v
getcert list -s
"""


def certmonger(desk: Desk, host: str, folder: Path, script: str) -> bytes:
    """What a script says that speaks to a certmonger of its own, in a session of its own."""
    places = {
        f"CERTMONGER_{name}_DIR": str(_folder(folder / name.lower()))
        for name in ("REQUESTS", "CAS", "CONFIG", "LOCAL_CA")
    }
    return run(
        "dbus-run-session", "--", "sh", "-c", script, cwd=folder, **{
            **desk.pki.product.environment, **places, "URL": desk.url(), "HOST_NAME": host,
            "CHALLENGE": desk.challenge, "HOME": str(_folder(folder / "home")), "TMPDIR": str(folder),
        },
    )  # fmt: skip


def test_certmonger_enrols_and_takes_a_new_key(desk: Desk, new_name: NewName, tmp_path: Path) -> None:
    host = new_name("certmonger")
    said = certmonger(desk, host, tmp_path, _CERTMONGER)
    assert b"status: MONITORING" in said
    first, second = (
        x509.load_pem_x509_certificate((tmp_path / name).read_bytes()) for name in ("first.pem", "device.pem")
    )
    assert _names(first) == _names(second) == [host]
    assert first.public_key() != second.public_key()


# ---- commands to copy ------------------------------------------------------------------------------------------------


def test_the_commands_that_are_shown_work_as_they_stand(desk: Desk, old_desk: Desk, tmp_path: Path) -> None:
    """Below an issuing CA with a root above it, whose certificates strongSwan writes into several files."""
    blanks = {"CHALLENGE": desk.challenge}
    type_shown(desk.pki, "scep/scep-ec", ("What the service can do", "strongSwan"), blanks, tmp_path)
    enrolled = x509.load_der_x509_certificate((tmp_path / "device.crt").read_bytes())
    enrolled.verify_directly_issued_by(desk.pki.issuer)
    type_shown(old_desk.pki, "scep/scep-rsa", ("micromdm scepclient",), {"CHALLENGE": old_desk.challenge}, tmp_path)
    enrolled = x509.load_pem_x509_certificate((tmp_path / "device.pem").read_bytes())
    enrolled.verify_directly_issued_by(old_desk.pki.issuer)


_CERTMONGER_WAITS = r"""
set -eu
getcert add-scep-ca -s -c gateway -u "$URL"
getcert request -s -c gateway -I device -k "$PWD/key.pem" -f "$PWD/device.pem" -N "CN=$HOST_NAME" -G rsa -g 2048 \
    -L "$CHALLENGE"
until getcert list -s | grep "status: CA_WORKING"; do sleep 0.2; done
until [ -e approved ]; do sleep 0.2; done
getcert refresh -s -i device
until getcert list -s | grep "status: MONITORING"; do sleep 0.2; done
"""


def test_certmonger_waits_for_approval(product: Product, new_name: NewName, tmp_path: Path) -> None:
    slow = make_desk(Pki.create(product, "scep-monger", profiles=[PROFILE]), "scep-monger", approval="manual")
    with ThreadPoolExecutor(1) as pool:
        enrolled = pool.submit(certmonger, slow, new_name("certmonger"), tmp_path, _CERTMONGER_WAITS)
        slow.approve()
        (tmp_path / "approved").touch()
        said = enrolled.result()
    assert b"status: MONITORING" in said
    assert x509.load_pem_x509_certificate((tmp_path / "device.pem").read_bytes()).issuer == slow.pki.issuer.subject


# ---- the operator ----------------------------------------------------------------------------------------------------


def test_who_knows_the_registration_authority_of_before_is_still_served(
    desk: Desk, new_name: NewName, tmp_path: Path
) -> None:
    client, product = StrongSwan(desk, tmp_path), desk.pki.product
    before = _bag(desk.fetch("GetCACert"))[0]
    product.run("scep", "ra", "renew", desk.name)
    eventually(lambda: _bag(desk.fetch("GetCACert"))[0] != before, what="clients are told of the new one")
    states = {int(each["serial"], 16): each["state"] for each in product.json("scep", "ra", "list")}
    assert states[before.serial_number] == "replaced"
    assert x509.load_der_x509_certificate(client.enrol(new_name(), "--password", desk.challenge))


def test_a_one_time_challenge_is_good_once(desk: Desk, new_name: NewName, tmp_path: Path) -> None:
    made = desk.pki.product.json("enroll", "credential", "create", f"scep/{desk.name}", "--kind", "one-time")
    client = StrongSwan(desk, tmp_path)
    assert x509.load_der_x509_certificate(client.enrol(new_name(), "--password", made["secret"]))
    client.new_key("key.der")
    assert b"badRequest" in client.enrol(new_name(), "--password", made["secret"], good=False)


@pytest.mark.parametrize(("title", "made"), [("strongSwan", "device.crt"), ("micromdm", "device.pem")])
def test_the_commands_shown_for_an_endpoint_work_as_they_are(
    old_desk: Desk, tmp_path: Path, title: str, made: str
) -> None:
    with admin(old_desk.pki.product) as http:
        found = ok(http.get("/enrollment/urls")).json()["items"]
    (shown,) = [each["commands"] for each in found if each["address"] == f"scep/{old_desk.name}"]
    (command,) = [each for each in shown if each["title"].startswith(title)]
    script = "\n".join(command["lines"]).replace("CHALLENGE", old_desk.challenge)
    where = old_desk.pki.product.url("public", "")
    run("sh", "-ec", script.replace(command["url"].partition("/scep/")[0], where), cwd=tmp_path)
    assert (tmp_path / made).stat().st_size > 500


# ---- a look at the bytes ---------------------------------------------------------------------------------------------


def test_openssl_reads_the_certificates_of_the_service(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "ca.p7b").write_bytes(desk.fetch("GetCACert"))
    shown = run("openssl", "pkcs7", "-inform", "DER", "-in", "ca.p7b", "-print_certs", "-noout", cwd=tmp_path).decode()
    assert (
        shown.index("CN = issuing SCEP RA") < shown.index("subject=O = Test, CN = issuing\n") < shown.index("CN = root")
    )


def _bag(data: bytes) -> list[x509.Certificate]:
    with pytest.warns(UserWarning, match="BER"):  # the order that clients look at is not that of DER
        return pkcs7.load_der_pkcs7_certificates(data)


def _names(certificate: x509.Certificate) -> list[str]:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return found.get_values_for_type(x509.DNSName)


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
