"""Enrolment as its protocol is: curl as the page, openssl as the maker of keys and requests, the command line as the
administrator, a mail server, and the certificate used where it is meant for."""

from __future__ import annotations

import base64
import hashlib
import json
import plistlib
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.interop.conftest import Reply
from tests.support.product import Product, eventually
from tests.support.programs import attempt, run


@dataclass(frozen=True)
class Place:
    """A trust domain in the running product, and a folder with what a user of it has."""

    product: Product
    domain: str
    folder: Path

    def call(
        self,
        path: str,
        *options: str | Path,
        listener: str = "console",
        body: Any = None,
        certificate: Path | None = None,
    ) -> Reply:
        """Ask with curl; ``body`` is JSON, or octets as they are."""
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
            options = ("-H", f"content-type: {kind}", "--data-binary", "@-", *options)
        if certificate is not None:
            options = ("--cert", certificate, *options)
        ca = self.folder / "platform-ca.pem"
        url = self.product.url(listener, path)
        common = ("-sS", "--cacert", ca, "-w", "\n%{http_code}")
        done = run("curl", *common, *options, url, stdin=data if body is not None else b"")
        answer, _, status = done.rpartition("\n")
        return Reply(int(status), answer.encode())

    def code(self, email: str, *options: str) -> dict[str, Any]:
        """A new security code."""
        found: dict[str, Any] = self.product.json(
            "mtls", "code", "create", email, "--name", "A Person", "--domain", self.domain, *options
        )
        return found

    def begin(self, code: str, email: str) -> Reply:
        return self.call("/enrol/v1/sessions", body={"code": code, "email": email})

    def request(self, session: dict[str, Any], folder: Path, key: str = "ec:P-256", **changes: str) -> Path:
        """The request of a session, made by openssl; the key is ``user.key`` beside it."""
        said = {"identity": session["identity"], "email": session["email"], "nonce": session["nonce"], **changes}
        config = folder / "request.cnf"
        config.write_text(
            "[req]\nprompt=no\ndistinguished_name=subject\nattributes=attributes\nreq_extensions=extensions\n"
            f"[subject]\nCN={said['identity']}\n[attributes]\nchallengePassword={said['nonce']}\n"
            f"[extensions]\nsubjectAltName=email:{said['email']}\n"
        )
        kind, _, size = key.partition(":")
        options = {"ec": f"ec_paramgen_curve:{size}", "rsa": f"rsa_keygen_bits:{size}"}[kind]
        path = folder / "user.csr"
        run("openssl", "req", "-new", "-newkey", kind, "-pkeyopt", options, "-nodes", "-keyout", folder / "user.key",
            "-config", config, "-out", path)  # fmt: skip
        run("openssl", "req", "-in", path, "-verify", "-noout")
        return path

    def enrol(self, email: str, folder: Path) -> Path:
        """A certificate with its key in one file."""
        session = self.begin(self.code(email)["code"], email).json
        csr = self.request(session, folder)
        answer = self.call(f"/enrol/v1/sessions/{session['session']}/csr", body={"csr": csr.read_text()})
        assert answer.status == 200, answer.body
        return store(answer, folder)


def store(answer: Reply, folder: Path) -> Path:
    """Certificate, chain and key in one file; the certificate alone beside it."""
    (folder / "user.pem").write_text(answer.json["certificate"])
    (folder / "chain.pem").write_text("".join(answer.json["chain"]))
    both = folder / "both.pem"
    both.write_text(answer.json["certificate"] + (folder / "user.key").read_text())
    return both


@pytest.fixture(scope="module")
def place(product: Product) -> Iterator[Place]:
    """A trust domain of this module's own."""
    name = f"org-{secrets.token_hex(3)}"
    domain = f"{name}.example"
    product.run("org", "create", name)
    mail = ("--email-domain", "example.com")
    product.run("mtls", "domain", "create", domain, "--org", name, "--environment", name, "--new-ca", *mail)
    with tempfile.TemporaryDirectory(prefix="intaglio-enrol-") as folder:
        found = Place(product, domain, Path(folder))
        (Path(folder) / "platform-ca.pem").write_text(product.run("tls", "ca-certificate"))
        yield found


def test_a_person_enrols_and_is_recognised(place: Place, tmp_path: Path) -> None:
    email = "alice@example.com"
    made = place.code(email)
    policy = place.call(f"/enrol/v1/policy?domain={place.domain}").json
    assert (policy["key_algorithm"], policy["validity_days"]) == ("EC P-256", 5)
    session = place.begin(made["code"].lower(), email)
    assert session.status == 201
    assert session.json["domain"] == place.domain
    csr = place.request(session.json, tmp_path)
    answer = place.call(f"/enrol/v1/sessions/{session.json['session']}/csr", body={"csr": csr.read_text()})
    assert answer.status == 200, answer.body
    both = store(answer, tmp_path)
    text = run("openssl", "x509", "-in", tmp_path / "user.pem", "-noout", "-text")
    assert "X509v3 Key Usage: critical\n                Digital Signature\n" in text
    assert "X509v3 Extended Key Usage: \n                TLS Web Client Authentication\n" in text
    assert f"email:{email}" in text
    assert f"URI:spiffe://{place.domain}/" in text
    root = tmp_path / "root.pem"
    root.write_text(answer.json["chain"][-1])
    run("openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", root, "-untrusted",
        tmp_path / "chain.pem", tmp_path / "user.pem")  # fmt: skip
    downloaded = place.call(f"/enrol/v1/sessions/{session.json['session']}/downloaded", "-X", "POST")
    assert downloaded.status == 204
    who = place.call("/whoami", listener="enroll", certificate=both)
    assert who.status == 200, who.body
    assert (who.json["identity"], who.json["email"]) == (session.json["identity"], email)
    shown = place.product.json("mtls", "code", "show", made["id"])
    assert (shown["state"], shown["uses"]) == ("used", 1)
    again = place.begin(made["code"], email)
    assert (again.status, again.json["code"]) == (409, "code_used")


def test_who_guesses_learns_nothing_and_is_locked_out(place: Place) -> None:
    made = place.code("guess@example.com")
    wrong = made["code"][:-1] + ("A" if made["code"][-1] != "A" else "B")
    unknown = ("ZZZZZ" if made["handle"] != "ZZZZZ" else "YYYYY") + wrong[5:]
    answers = [place.begin(code, "guess@example.com") for code in (wrong, unknown)]
    bodies = [{k: v for k, v in each.json.items() if k != "correlationId"} for each in answers]
    assert bodies[0] == bodies[1]
    assert (answers[0].status, bodies[0]["code"]) == (403, "code_invalid")
    for _ in range(4):
        place.begin(wrong, "guess@example.com")
    locked = place.begin(made["code"], "guess@example.com")
    assert (locked.status, locked.json["code"]) == (429, "code_locked")
    assert place.product.json("mtls", "code", "show", made["id"])["state"] == "locked"


def test_a_withdrawn_code_is_good_for_nothing(place: Place) -> None:
    made = place.code("withdrawn@example.com")
    place.product.run("mtls", "code", "revoke", made["id"], "--yes")
    answer = place.begin(made["code"], "withdrawn@example.com")
    assert (answer.status, answer.json["code"]) == (403, "code_revoked")


@pytest.mark.parametrize(
    ("key", "changes", "code"),
    [
        ("ec:P-256", {"identity": "u-somebody"}, "csr_mismatch"),
        ("ec:P-256", {"email": "mallory@example.com"}, "csr_mismatch"),
        ("ec:P-256", {"nonce": "replayed"}, "csr_mismatch"),
        ("ec:P-384", {}, "csr_key_type"),
        ("rsa:2048", {}, "csr_key_type"),
    ],
)
def test_a_bad_request_of_openssl_is_refused_and_costs_nothing(
    place: Place, tmp_path: Path, key: str, changes: dict[str, str], code: str
) -> None:
    email = f"{secrets.token_hex(4)}@example.com"
    session = place.begin(place.code(email)["code"], email).json
    path = f"/enrol/v1/sessions/{session['session']}/csr"
    refused = place.call(path, body={"csr": place.request(session, tmp_path, key, **changes).read_text()})
    assert (refused.status, refused.json["code"]) == (400, code)
    good = place.request(session, tmp_path)
    assert place.call(path, body=good.read_bytes()).status == 200


def test_a_forged_request_is_refused(place: Place, tmp_path: Path) -> None:
    email = "forged@example.com"
    session = place.begin(place.code(email)["code"], email).json
    csr = place.request(session, tmp_path)
    run("openssl", "req", "-in", csr, "-outform", "DER", "-out", tmp_path / "user.der")
    der = (tmp_path / "user.der").read_bytes()
    # The request of the same names over a key of somebody else, with the signature of this one.
    forged = der.replace(session["nonce"].encode(), b"X" * len(session["nonce"]))
    body = {"csr": base64.b64encode(forged).decode()}
    refused = place.call(f"/enrol/v1/sessions/{session['session']}/csr", body=body)
    assert (refused.status, refused.json["code"]) == (400, "csr_signature")


@pytest.mark.parametrize("form", ["pkcs8", "traditional", "encrypted", "pkcs12", "der"])
def test_a_private_key_is_refused_whatever_it_is_in(place: Place, tmp_path: Path, form: str) -> None:
    key, out = tmp_path / "key.pem", tmp_path / "sent"
    run("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
    match form:
        case "pkcs8":
            out.write_bytes(key.read_bytes())
        case "traditional":
            run("openssl", "ec", "-in", key, "-out", out)
        case "encrypted":
            run("openssl", "pkcs8", "-topk8", "-in", key, "-passout", "pass:secret", "-outform", "DER", "-out", out)
        case "pkcs12":
            run("openssl", "req", "-x509", "-key", key, "-subj", "/CN=x", "-out", tmp_path / "crt")
            run("openssl", "pkcs12", "-export", "-inkey", key, "-in", tmp_path / "crt", "-passout", "pass:secret",
                "-out", out)  # fmt: skip
        case "der":
            run("openssl", "ec", "-in", key, "-outform", "DER", "-out", out)
    sent = out.read_bytes()
    for body in (sent, {"csr": base64.b64encode(sent).decode()}):
        refused = place.call("/enrol/v1/sessions/none/csr", body=body)
        assert (refused.status, refused.json["code"]) == (400, "private_key_received"), form
    alerts = place.product.json("audit", "list", "--filter", "action=enrolment.private-key-received")
    assert alerts[0]["detail"]["alert"] is True
    log = place.product.log.read_text()
    assert base64.b64encode(sent).decode()[:60] not in log


def test_a_certificate_renews_itself(place: Place, tmp_path: Path) -> None:
    both = place.enrol("renew@example.com", tmp_path)
    nonce = place.call("/enrol/v1/renew", listener="enroll", certificate=both).json
    csr = place.request(nonce, tmp_path)
    answer = place.call("/enrol/v1/renew", listener="enroll", certificate=both, body={"csr": csr.read_text()})
    assert answer.status == 200, answer.body
    renewed = store(answer, tmp_path)
    who = place.call("/whoami", listener="enroll", certificate=renewed).json
    assert (who["identity"], who["serial"]) == (nonce["identity"], answer.json["serial"])


def test_a_lost_device_is_shut_out_with_a_fresh_code(place: Place, tmp_path: Path) -> None:
    email = "lost@example.com"
    both = place.enrol(email, tmp_path)
    assert place.call("/whoami", listener="enroll", certificate=both).status == 200
    fresh = place.code(email)["code"]
    revoked = place.call("/enrol/v1/revoke", body={"code": fresh, "email": email})
    assert revoked.json == {"revoked": 1}
    refused = place.call("/whoami", listener="enroll", certificate=both)
    assert (refused.status, refused.json["code"]) == (401, "revoked")
    assert place.begin(fresh, email).status == 201
    root = tmp_path / "chain.pem"
    uri = run("openssl", "x509", "-in", tmp_path / "user.pem", "-noout", "-ocsp_uri").strip()
    issuer = tmp_path / "issuer.pem"
    issuer.write_text(root.read_text().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n")
    answer = run("openssl", "ocsp", "-issuer", issuer, "-cert", tmp_path / "user.pem", "-url", uri, "-CAfile", root,
                 "-no_nonce")  # fmt: skip
    assert "revoked" in answer


def test_strangers_are_told_why_they_are_strangers(place: Place, tmp_path: Path) -> None:
    nobody = place.call("/whoami", listener="enroll")
    assert (nobody.status, nobody.json["code"]) == (401, "no_certificate")
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
        tmp_path / "k", "-subj", "/CN=alice", "-out", tmp_path / "c")  # fmt: skip
    both = tmp_path / "self.pem"
    both.write_text((tmp_path / "c").read_text() + (tmp_path / "k").read_text())
    myself = place.call("/whoami", listener="enroll", certificate=both)
    assert (myself.status, myself.json["code"]) == (401, "self_signed")


def test_browsers_are_told_which_certificates_count(place: Place) -> None:
    port = place.product.runtime.port("enroll")
    seen = attempt("openssl", "s_client", "-connect", f"localhost:{port}", "-CAfile", place.folder / "platform-ca.pem")
    assert "Acceptable client certificate CA names" in seen.output
    assert place.domain.removesuffix(".example") in seen.output.partition("Acceptable client certificate CA names")[2]


def test_the_ca_comes_in_three_forms_that_say_the_same(place: Place, tmp_path: Path) -> None:
    policy = place.call(f"/enrol/v1/policy?domain={place.domain}").json
    files = {}
    for form in ("pem", "cer", "mobileconfig"):
        for listener in ("console", "enroll"):
            answer = place.call(f"/enrol/v1/ca.{form}?domain={place.domain}", "-o", tmp_path / form, listener=listener)
            assert answer.status == 200
        files[form] = tmp_path / form
    fingerprints = {
        run("openssl", "x509", "-in", files[form], "-noout", "-fingerprint", "-sha256").strip().partition("=")[2]
        for form in ("pem", "cer")
    }
    assert fingerprints == {policy["ca"]["sha256"]}
    profile = plistlib.loads(files["mobileconfig"].read_bytes())
    assert profile["PayloadType"] == "Configuration"
    first = profile["PayloadContent"][0]
    assert first["PayloadType"] == "com.apple.security.root"
    assert hashlib.sha256(first["PayloadContent"]).digest().hex(":").upper() == policy["ca"]["sha256"]
    uuids = [profile["PayloadUUID"], *(each["PayloadUUID"] for each in profile["PayloadContent"])]
    assert len(set(uuids)) == len(uuids)
    trusted = run("curl", "-sS", "--cacert", files["pem"], place.product.url("console", "/enrol/v1/ca.pem"),
                  "-G", "-d", f"domain={place.domain}")  # fmt: skip
    assert trusted == files["pem"].read_text()


def test_the_trail_shows_every_step(place: Place, tmp_path: Path) -> None:
    place.enrol("trail@example.com", tmp_path)

    def recorded() -> bool:
        found = place.product.json("audit", "list", "--filter", f"organization={place.domain.removesuffix('.example')}")
        actions = {each["action"] for each in found}
        return actions >= {"security-code.create", "enrolment.begin", "enrolment.request", "enrolment.issue"}

    eventually(recorded, what=lambda: "the steps are on record")
