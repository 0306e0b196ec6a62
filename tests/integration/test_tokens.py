"""A served product with keys in tokens (SoftHSM 2), as its operators and relying parties meet it."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp
from tests.support import pki as helper
from tests.support.eventually import eventually as reached
from tests.support.folders import fast_folder
from tests.support.pki import Pki, certificate_request
from tests.support.product import NewProduct, Product, eventually
from tests.support.programs import run
from tests.support.tokens import PIN, SoftHsm

KEY_TYPES = {
    "RSA2048": "2048 bit", "RSA3072": "3072 bit", "RSA4096": "4096 bit", "ECDSAP256": "P-256", "ECDSAP384": "P-384",
    "ECDSAP521": "P-521",
}  # fmt: skip


class House:
    """A running product and the tokens it is led to."""

    def __init__(self, folder: Path) -> None:
        self.hsm = SoftHsm(folder)
        self.hsm.make("one")
        self.hsm.make("two")
        self.product = Product(folder, PKCS11_ENVIRONMENT=f"SOFTHSM2_CONF={self.hsm.configuration}", WORKERS="2")
        self.product.run("init")
        self.product.start()
        for name, pin in (("pin", PIN), ("wrong", "0000")):
            (self.product.work / name).write_text(f"{pin}\n")
        self.checked_at_first = self.product.attempt("hsm", "check")

    def add(self, name: str, label: str) -> None:
        token = ("--module", "softhsm2", "--label", label, "--pin-file", "pin")
        self.product.run("hsm", "token", "add", name, *token)


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with tempfile.TemporaryDirectory(prefix="intaglio-tokens-", dir=fast_folder(), ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        made = House(folder)
        made.add("main", "one")
        made.add("second", "two")
        yield made
        made.product.stop()


def test_a_check_reports_the_slot_and_every_kind_of_key(house: House) -> None:
    report = house.product.run("hsm", "check", "main")
    shown = house.hsm.run("pkcs11-tool", "--module", str(house.hsm.library), "--list-slots")
    serial = next(line.split()[-1] for line in shown.splitlines() if "serial num" in line)
    assert "SoftHSM v2" in report
    assert serial in house.product.run("hsm", "slots", "softhsm2")
    for kind in ("rsa-2048", "rsa-4096", "ecdsa-p256", "ecdsa-p521", "ed25519"):
        line = next(line for line in report.splitlines() if line.strip().startswith(kind))
        assert "generate OK, sign OK, verify OK, delete OK" in line
    assert report.rstrip().endswith("Tests passed successfully.")
    wrong = house.product.attempt("hsm", "check", "main", "--pin-file", "wrong")
    assert wrong.status == 1
    assert "does not accept its PIN" in wrong.output
    assert house.product.json("hsm", "token", "show", "main")["pin_state"] == "accepted"


def test_a_check_before_there_is_a_token_says_so(house: House) -> None:
    assert house.checked_at_first.status == 1
    assert "No token is configured." in house.checked_at_first.output
    assert "intaglio hsm token add" in house.checked_at_first.output


def test_a_check_takes_a_debug_level_with_every_library(house: House) -> None:
    report = house.product.run("hsm", "check", "main", "--debug-level", "3")
    assert report.rstrip().endswith("Tests passed successfully.")


def test_a_wrong_label_or_pin_is_refused_and_not_kept(house: House) -> None:
    add = ("hsm", "token", "add", "third", "--module", "softhsm2")
    for options, said in (
        (("--label", "one", "--pin-file", "wrong"), "does not accept this PIN"),
        (("--label", "nobody", "--pin-file", "pin"), "no token with label nobody"),
        (("--pin-file", "pin"), "not said which token"),
    ):
        refused = house.product.attempt(*add, *options)
        assert refused.status == 1
        assert said in refused.output
    assert {each["name"] for each in house.product.json("hsm", "token", "list")} == {"main", "second"}


@pytest.mark.parametrize("kind", sorted(KEY_TYPES))
def test_a_key_made_by_command_gives_a_request_that_openssl_verifies(house: House, kind: str) -> None:
    product = house.product
    made = product.json("key", "create", kind, "--provider", "pkcs11:main", "--label", kind)
    request = product.work / f"{kind}.csr"
    request.write_text(made["csr"])
    text = run("openssl", "req", "-in", request, "-verify", "-noout", "-text")
    assert KEY_TYPES[kind] in text
    assert f"CN = {made['id']}" in text
    product.run("key", "csr", made["id"], "--subject", "cn=x,o=Demo", "--out", f"{kind}-2.csr")
    again = product.work / f"{kind}-2.csr"
    assert "O = Demo, CN = x" in run("openssl", "req", "-in", again, "-verify", "-noout", "-subject")
    keys = [run("openssl", "req", "-in", each, "-noout", "-pubkey") for each in (request, again)]
    assert keys[0] == keys[1]
    reference = made["id"].replace("-", "")
    listed = [each for each in product.json("hsm", "objects", "main") if each["id"] == reference]
    assert sorted(each["kind"] for each in listed) == ["private key", "public key"]
    assert house.hsm.pkcs11_tool("one", "--list-objects").count(reference) == 2
    product.run("key", "delete", made["id"], "--yes")
    assert reference not in house.hsm.pkcs11_tool("one", "--list-objects")
    assert product.attempt("key", "csr", made["id"]).status == 1


def test_a_ca_in_a_token_is_an_ordinary_ca(house: House, tmp_path: Path) -> None:
    product = house.product
    product.run("org", "create", "vault")
    create = ("--profile", "privatessl-tls-server", "--administrator", "alice", "--save-passwords", "--force")
    product.run("ca", "create", "root", "vault~root", "--subject", "CN=Vault Root", "--provider", "pkcs11:main",
                "--key", "RSA-3072", *create)  # fmt: skip
    product.run("ca", "create", "issuing", "vault~issuing", "--issuer", "root", "--subject", "CN=Vault Issuing",
                "--provider", "pkcs11:second", *create)  # fmt: skip
    assert product.json("ca", "show", "vault~issuing")["key_provider"] == "pkcs11:second"
    guarded = house.hsm.pkcs11_tool("two", "--list-objects", "--type", "privkey")
    assert "ca:vault~issuing" in guarded
    assert "never extractable, local" in guarded
    (tmp_path / "leaf.csr").write_bytes(certificate_request())
    run("openssl", "req", "-inform", "der", "-in", tmp_path / "leaf.csr", "-out", tmp_path / "leaf.pem")
    with helper.admin(product) as http:
        chain = helper.ok(http.get("/cas/vault~issuing/chain")).text
        body = {"profile": "privatessl-tls-server", "csr": (tmp_path / "leaf.pem").read_text()}
        body |= {"names": [{"type": "dNSName", "value": "www.example"}], "subject": "CN=www.example"}
        leaf = helper.ok(http.post("/cas/vault~issuing/certificates", json=body)).json()["certificate"]
    issuing, root = (each + "-----END CERTIFICATE-----\n" for each in chain.split("-----END CERTIFICATE-----\n")[:2])
    for name, text in (("leaf", leaf), ("issuing", issuing), ("root", root)):
        (tmp_path / f"{name}.crt").write_text(text)
    crl = tmp_path / "crl.pem"

    def published() -> bool:
        answer = httpx.get(product.url("public", "/crl/vault/issuing/crl.crl"), trust_env=False)
        if answer.status_code == 200:
            (tmp_path / "crl.der").write_bytes(answer.content)
        return answer.status_code == 200

    eventually(published, what="the CRL is published")
    run("openssl", "crl", "-inform", "der", "-in", tmp_path / "crl.der", "-out", crl)
    trust = ("-CAfile", tmp_path / "root.crt", "-untrusted", tmp_path / "issuing.crt")
    run("openssl", "verify", "-x509_strict", "-crl_check", "-CRLfile", crl, *trust, tmp_path / "leaf.crt")
    said = run("openssl", "ocsp", "-issuer", tmp_path / "issuing.crt", "-cert", tmp_path / "leaf.crt",
               "-url", product.url("public", "/ocsp/vault/issuing"), "-CAfile", tmp_path / "root.crt",
               "-verify_other", tmp_path / "issuing.crt")  # fmt: skip
    assert "leaf.crt: good" in said
    signers = [each for each in product.json("key", "list", "--all") if each["label"] == "ocsp:vault~issuing/g1"]
    assert {each["provider"] for each in signers} == {"pkcs11:second"}
    refused = product.attempt("hsm", "token", "remove", "second", "--yes")
    assert "are in the token" in refused.output


def test_the_seal_of_the_audit_trail_can_be_in_a_token(house: House) -> None:
    made = house.product.json("audit", "rotate-key", "--provider", "pkcs11:main")
    shown = house.product.json("key", "show", made["key_id"])
    assert (shown["provider"], shown["used"]) == ("pkcs11:main", "it seals the audit trail")
    house.product.run("audit", "verify")
    actions = {each["action"] for each in house.product.json("audit", "list", "--limit", "1000")}
    assert {"hsm-token.add", "key.generate"} <= actions


def test_a_second_instance_of_a_key_command_is_told_that_another_one_runs(house: House) -> None:
    with helper.Pki.database(Pki(house.product, "vault")) as connection:
        number = connection.execute(
            "SELECT ('x' || left(encode(sha256('operator-keys'), 'hex'), 16))::bit(64)::bigint"
        ).fetchone()
        assert number is not None
        connection.execute("BEGIN")
        connection.execute("SELECT pg_advisory_xact_lock(%s)", number)
        refused = house.product.attempt("key", "create", "ECDSAP256")
        assert refused.status == 1
        assert "Another instance is running key create or key delete since" in refused.output
        connection.execute("ROLLBACK")
    assert house.product.attempt("key", "create", "ECDSAP256").status == 0


def test_client_files_are_taken_over_and_written_back_by_command(house: House, tmp_path: Path) -> None:
    product = house.product
    (tmp_path / "kmdata/local").mkdir(parents=True)
    (tmp_path / "kmdata/local/world").write_bytes(b"security world")
    product.run("hsm", "import", "--preset", "nshield", "--from", tmp_path / "kmdata", "--yes")
    product.run("hsm", "export", "--preset", "nshield", "--out", tmp_path / "out", "--tar")
    assert "kmdata/local/world" in run("tar", "tzf", tmp_path / "out/kmdata.tar.gz")
    product.run("hsm", "import", "--preset", "nshield", "--from", tmp_path / "out/kmdata.tar.gz", "--yes")
    for options in (
        ("luna", "--package", "x.zip", "--cert-dir", "cert"),
        ("luna", "--cert-dir", "cert"),
        ("nshield", "--from", tmp_path / "kmdata", "--chrystoki", "x"),
        ("nshield",),
        ("yubihsm2", "--from", tmp_path),
    ):
        refused = product.attempt("hsm", "import", "--yes", "--preset", *options)
        assert refused.status == 1
        assert "belong together" in refused.output or "no client configuration" in refused.output
    unconfirmed = product.attempt("hsm", "import", "--preset", "nshield", "--from", tmp_path / "kmdata")
    assert "--yes" in unconfirmed.output
    actions = [each["action"] for each in product.json("audit", "list", "--filter", "action~hsm-files")]
    assert sorted(actions) == ["hsm-files.export", "hsm-files.import", "hsm-files.import"]


async def test_a_ca_moves_into_a_token_loses_it_under_load_and_goes_on_by_itself(
    new_product: NewProduct, tmp_path: Path
) -> None:
    hsm = SoftHsm(tmp_path)
    hsm.make("one")
    product = new_product(PKCS11_ENVIRONMENT=f"SOFTHSM2_CONF={hsm.configuration}", WORKERS="2")
    product.run("init")
    product.start()
    pki = Pki.create(product, "moving")
    (product.work / "pin").write_text(PIN)
    product.run("hsm", "token", "add", "main", "--module", "softhsm2", "--label", "one", "--pin-file", "pin")
    processes = product.runtime.processes
    outcomes: Counter[str] = Counter()
    ended = asyncio.Event()

    async def enrol() -> None:
        async with pki.http() as gateway:
            while not ended.is_set():
                answer = await gateway.enroll(certificate_request())
                if answer.is_success:
                    made = x509.load_der_x509_certificate(helper.issued(answer).der)
                    made.verify_directly_issued_by(pki.issuer)
                outcomes["enrolled" if answer.is_success else f"enrol {answer.status_code}"] += 1

    async with pki.http() as gateway:
        first = helper.issued(await gateway.enroll(certificate_request()))
    leaf = x509.load_der_x509_certificate(first.der)

    async def ask() -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=40) as http:
            while not ended.is_set():
                outcomes[f"ocsp {await _status(http, pki, leaf)}"] += 1

    async def seen(*wanted: str) -> None:
        """Wait until each of these outcomes has come twenty times more."""
        goal = {name: outcomes[name] + 20 for name in wanted}
        await reached(
            lambda: any(each.done() for each in tasks) or all(outcomes[name] >= n for name, n in goal.items()),
            timeout=60,
        )
        assert not any(each.done() for each in tasks), [each.exception() for each in tasks if each.done()]

    good, refused = ("enrolled", "ocsp SUCCESSFUL"), ("enrol 503", "ocsp TRY_LATER")
    tasks = [asyncio.create_task(each()) for each in (enrol, enrol, ask)]
    try:
        await seen(*good)
        moved = await asyncio.to_thread(product.json, "key", "migrate", pki.issuing, "--to", "pkcs11:main", "--yes")
        assert {each["provider"] for each in moved} == {"pkcs11:main"}
        assert len(moved) == 2  # its own key and that of its OCSP signer
        await seen(*good)
        hsm.take_away()
        await seen(*refused)
        health = await asyncio.to_thread(_health, product)
        assert health["cas"]["details"][pki.issuing] in ("token-unavailable", "token-key-missing")
        assert health["tokens"]["status"] == "DOWN"
        hsm.put_back()
        await seen(*good)
    finally:
        ended.set()
        done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [each for each in done if each is not None] == []
    assert set(outcomes) == {*good, *refused}
    assert product.runtime.processes == processes
    refusal = await asyncio.to_thread(product.attempt, "key", "migrate", pki.issuing, "--to", "software", "--yes")
    assert "does not let" in refusal.output
    product.run("ca", "rekey", pki.issuing, "--provider", "software")
    assert product.json("ca", "show", pki.issuing)["key_provider"] == "software"


def _health(product: Product) -> Any:
    return httpx.get(product.url("health", "/readyz"), trust_env=False, timeout=40).json()["components"]


async def _status(http: httpx.AsyncClient, pki: Pki, leaf: x509.Certificate) -> str:
    """The status of an OCSP answer with a nonce, which is signed for it alone; what it signs has to be right."""
    builder = ocsp.OCSPRequestBuilder().add_certificate(leaf, pki.issuer, hashes.SHA256())
    nonce = x509.OCSPNonce(x509.random_serial_number().to_bytes(20))
    request = builder.add_extension(nonce, critical=False).build()
    headers = {"content-type": "application/ocsp-request"}
    content = request.public_bytes(helper.Encoding.DER)
    answer = ocsp.load_der_ocsp_response((await http.post(pki.ocsp_url, content=content, headers=headers)).content)
    if answer.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL:
        assert answer.certificate_status is ocsp.OCSPCertStatus.GOOD
        [signer] = answer.certificates
        signer.verify_directly_issued_by(pki.issuer)
        public = signer.public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        assert answer.signature_hash_algorithm is not None
        public.verify(answer.signature, answer.tbs_response_bytes, ec.ECDSA(answer.signature_hash_algorithm))
    return answer.response_status.name
