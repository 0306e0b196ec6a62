"""EST with clients that are not ours: strongSwan's pki, curl with OpenSSL."""

from __future__ import annotations

import base64
import email
import email.policy
import socket
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key, pkcs7
from cryptography.x509 import ocsp
from OpenSSL import SSL
from tests.support.pki import Issued, Pki
from tests.support.product import Product, eventually
from tests.support.programs import attempt, run
from tests.support.requests import request
from tests.support.shown_commands import type_shown

USER, PASSWORD = "router-7", "correct-horse-battery"
PROFILES = (
    "est-digital-signature",
    "est-non-repudiation",
    "est-digital-signature-key-encipherment",
    "est-key-encipherment",
)


@pytest.fixture(scope="module")
def est(product: Product) -> Pki:
    """A PKI with the endpoints ``default`` for users, ``devices`` for those with a certificate, and ``approved`` where
    somebody decides."""
    pki = Pki.create(product, "est-lab", profiles=PROFILES)
    create = ("enroll", "endpoint", "create", "--protocol", "est", "--ca", pki.issuing)
    shown = product.run(*create, "--profile", PROFILES[0], "--name", "default", "--option", "server_keys=true",
                        "--option", "subject_template=CN=,O=Demo", "--option", "request_key=P-256")  # fmt: skip
    assert "/.well-known/est" in shown
    product.run(*create, "--profile", PROFILES[1], "--name", "devices", "--option", "authentication=certificate",
                "--option", f"trusted=@{pki.issuing_file}", "--option", "certificate_names=any",
                "--option", "revoke_renewed=true")  # fmt: skip
    product.run(*create, "--profile", PROFILES[2], "--name", "approved", "--approval", "manual")
    product.run(*create, "--profile", PROFILES[3], "--name", "linked", "--option", "link_to_connection=required")
    (pki.folder / "secret").write_text(PASSWORD)
    for endpoint in ("default", "approved", "linked"):
        product.run("enroll", "credential", "create", f"est/{endpoint}", "--name", USER, "--secret-file",
                    pki.folder / "secret")  # fmt: skip
    return pki


def url(pki: Pki, operation: str = "", label: str = "") -> str:
    path = "/.well-known/est" + (f"/{label}" if label else "") + (f"/{operation}" if operation else "")
    return pki.product.url("enroll", path)


def curl(pki: Pki, *arguments: str | Path, stdin: bytes = b"") -> tuple[int, bytes]:
    """Status and body of an answer."""
    status = "%{http_code}"
    common = ("--silent", "--cacert", pki.anchor_file, "--write-out", f"\\n{status}")
    done = attempt("curl", *common, *arguments, stdin=stdin)
    body, _, code = done.stdout.rpartition(b"\n")
    return int(code), body


def certificates(body: bytes) -> list[x509.Certificate]:
    return pkcs7.load_der_pkcs7_certificates(base64.b64decode(body))


def key_and_request(folder: Path, name: str, *more: str) -> tuple[Path, Path]:
    """A key made by OpenSSL, and a request for it in base64."""
    key, request = folder / f"{name}.key", folder / f"{name}.b64"
    done = attempt("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc",
                   "-keyout", key, "-subj", f"/CN={name}", "-outform", "DER", *more)  # fmt: skip
    request.write_bytes(base64.encodebytes(done.stdout))
    return key, request


def test_strongswan_fetches_the_ca_certificates(est: Pki, tmp_path: Path) -> None:
    run("pki", "--estca", "--url", est.product.url("enroll"), "--cacert", est.anchor_file, "--caout", "ca.pem",
        "--outform", "pem", cwd=tmp_path)  # fmt: skip
    found = "".join(path.read_text() for path in tmp_path.glob("ca*.pem"))
    assert est.root_file.read_text().strip() in found


def test_strongswan_enrols_with_a_password_and_renews_with_the_certificate(est: Pki, tmp_path: Path) -> None:
    first = strongswan_request(tmp_path, "first")
    trust = [f"--cacert={file}" for file in (est.anchor_file, est.root_file, est.issuing_file)]
    common = ("--est", "--url", est.product.url("enroll"), *trust, "--outform", "pem")
    made = attempt("pki", *common, "--in", first, "--userpass", f"{USER}:{PASSWORD}", cwd=tmp_path)
    assert made.status == 0, made.output
    certificate = x509.load_pem_x509_certificate(made.stdout)
    assert certificate.subject.rfc4514_string() == "CN=gateway"
    (tmp_path / "first.pem").write_bytes(made.stdout)

    second = strongswan_request(tmp_path, "second")
    renewed = attempt(
        "pki", *common, "--in", second, "--cert", tmp_path / "first.pem", "--key", tmp_path / "first.key", cwd=tmp_path
    )
    assert renewed.status == 0, renewed.output
    follower = x509.load_pem_x509_certificate(renewed.stdout)
    assert follower.subject == certificate.subject
    assert follower.public_key() != certificate.public_key()
    with est.database() as database:
        linked = database.execute(
            "SELECT old.serial FROM certificate new JOIN certificate old ON old.id = new.previous_id "
            "WHERE new.serial = %s",
            [serial(follower)],
        ).fetchone()
    assert linked == (serial(certificate),)


def test_strongswan_is_refused_with_a_wrong_password(est: Pki, tmp_path: Path) -> None:
    request = strongswan_request(tmp_path, "first")
    trust = [f"--cacert={file}" for file in (est.anchor_file, est.root_file, est.issuing_file)]
    common = ("--est", "--url", est.product.url("enroll"), *trust, "--in", request)
    made = attempt("pki", *common, "--userpass", f"{USER}:wrong", cwd=tmp_path)
    assert made.status != 0
    assert "401" in made.output


def test_curl_enrols_after_it_was_asked_for_its_password(est: Pki, tmp_path: Path) -> None:
    _, request = key_and_request(tmp_path, "sensor-1", "-addext", "subjectAltName=DNS:sensor-1.example")
    status, body = curl(est, "--anyauth", "--user", f"{USER}:{PASSWORD}", "--data-binary", f"@{request}",
                        url(est, "simpleenroll"))  # fmt: skip
    assert status == 200, body
    (found,) = certificates(body)
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["sensor-1.example"]
    assert est.ocsp(issued(found)).certificate_status is ocsp.OCSPCertStatus.GOOD
    assert record(est, found) == ("est", USER)


def test_somebody_without_a_password_is_asked_for_one_and_it_is_no_refusal(est: Pki, tmp_path: Path) -> None:
    _, request = key_and_request(tmp_path, "sensor-2")
    done = attempt("curl", "--silent", "--include", "--cacert", est.anchor_file, "--data-binary", f"@{request}",
                   url(est, "simpleenroll"))  # fmt: skip
    assert "401" in done.output.splitlines()[0]
    assert 'www-authenticate: Basic realm="default"' in done.output
    wrong = curl(est, "--user", "nobody-9:nothing", "--data-binary", f"@{request}", url(est, "simpleenroll"))
    assert wrong[0] == 401

    def refusals() -> list[str]:
        with est.database() as database:
            rows = database.execute(
                "SELECT detail->>'code' FROM audit_record WHERE action = 'est.simpleenroll' AND outcome = 'refused'"
            ).fetchall()
        return [code for (code,) in rows]

    eventually(lambda: "credential-unknown" in refusals(), what=lambda: "the wrong password is in the audit trail")
    assert "authentication-required" not in refusals()


def test_a_device_renews_by_certificate_and_the_old_one_is_superseded(est: Pki, tmp_path: Path) -> None:
    key, request = key_and_request(tmp_path, "device-3")
    status, body = curl(est, "--user", f"{USER}:{PASSWORD}", "--data-binary", f"@{request}", url(est, "simpleenroll"))
    assert status == 200, body
    birth = tmp_path / "birth.pem"
    birth.write_bytes(certificates(body)[0].public_bytes(Encoding.PEM))

    # With that it enrols where only certificates count, and renews there.
    shown = ("--cert", birth, "--key", key)
    status, body = curl(est, *shown, "--data-binary", f"@{request}", url(est, "simpleenroll", "devices"))
    assert status == 200, body
    (operational,) = certificates(body)
    current = tmp_path / "operational.pem"
    current.write_bytes(operational.public_bytes(Encoding.PEM))
    shown = ("--cert", current, "--key", key)
    status, body = curl(est, *shown, "--data-binary", f"@{request}", url(est, "simplereenroll", "devices"))
    assert status == 200, body
    (renewed,) = certificates(body)
    assert renewed.serial_number != operational.serial_number
    answer = est.ocsp(issued(operational))
    assert (answer.certificate_status, answer.revocation_reason) == (
        ocsp.OCSPCertStatus.REVOKED,
        x509.ReasonFlags.superseded,
    )
    # What was revoked opens no door any more.
    status, body = curl(est, *shown, "--data-binary", f"@{request}", url(est, "simplereenroll", "devices"))
    assert (status, b"revoked" in body) == (403, True)


def test_a_renewal_under_another_name_is_refused(est: Pki, tmp_path: Path) -> None:
    key, request = key_and_request(tmp_path, "device-4")
    _, body = curl(est, "--user", f"{USER}:{PASSWORD}", "--data-binary", f"@{request}", url(est, "simpleenroll"))
    current = tmp_path / "current.pem"
    current.write_bytes(certificates(body)[0].public_bytes(Encoding.PEM))
    _, other = key_and_request(tmp_path, "device-5")
    shown = ("--cert", current, "--key", key)
    status, body = curl(est, *shown, "--data-binary", f"@{other}", url(est, "simplereenroll"))
    assert (status, b"names-changed" in body) == (422, True)


def test_a_certificate_of_somebody_else_is_refused(est: Pki, tmp_path: Path) -> None:
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout",
        tmp_path / "own.key", "-out", tmp_path / "own.pem", "-subj", "/CN=device-6")  # fmt: skip
    _, request = key_and_request(tmp_path, "device-6")
    shown = ("--cert", tmp_path / "own.pem", "--key", tmp_path / "own.key")
    status, body = curl(est, *shown, "--data-binary", f"@{request}", url(est, "simpleenroll", "devices"))
    assert (status, b"certificate-untrusted" in body) == (403, True)


def test_a_request_waits_for_approval_and_curl_asks_again(est: Pki, tmp_path: Path) -> None:
    _, request = key_and_request(tmp_path, "device-7")
    ask = ("--user", f"{USER}:{PASSWORD}", "--data-binary", f"@{request}", url(est, "simpleenroll", "approved"))
    done = attempt("curl", "--silent", "--include", "--cacert", est.anchor_file, *ask)
    assert "202" in done.output.splitlines()[0]
    assert "retry-after: " in done.output
    (waiting,) = est.product.json("enroll", "request", "list", "--filter", "state=pending", "--filter",
                                  "subject=CN=device-7")  # fmt: skip
    est.product.run("enroll", "request", "approve", waiting["id"])
    status, body = curl(est, *ask)
    assert status == 200, body
    assert certificates(body)[0].subject.rfc4514_string() == "CN=device-7"


def test_a_key_made_here_comes_with_its_certificate(est: Pki, tmp_path: Path) -> None:
    _, request = key_and_request(tmp_path, "device-8")
    done = attempt("curl", "--silent", "--include", "--cacert", est.anchor_file, "--user", f"{USER}:{PASSWORD}",
                   "--data-binary", f"@{request}", url(est, "serverkeygen"))  # fmt: skip
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    kind = next(line for line in head.splitlines() if line.lower().startswith(b"content-type:"))
    message = email.message_from_bytes(kind + b"\r\n\r\n" + body, policy=email.policy.default)
    key, chain = (bytes(part.get_payload(decode=True)) for part in message.iter_parts())  # type: ignore[attr-defined]
    (certificate,) = pkcs7.load_der_pkcs7_certificates(chain)
    assert load_der_private_key(key, None).public_key() == certificate.public_key()


def test_openssl_reads_the_attributes_that_are_asked_for(est: Pki) -> None:
    status, body = curl(est, url(est, "csrattrs"))
    assert status == 200
    shown = attempt("openssl", "asn1parse", "-inform", "DER", stdin=base64.b64decode(body)).output
    assert "id-ecPublicKey" in shown
    assert "prime256v1" in shown
    assert "commonName" in shown
    assert "Demo" in shown


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_a_request_is_good_on_the_connection_that_it_was_made_for(est: Pki, version: int) -> None:
    first, second = connection(est, version), connection(est, version)
    csr = request("CN=linked", challenge=base64.b64encode(binding(first)).decode())
    assert post(est, second, csr).startswith(b"HTTP/1.1 403")
    assert post(est, first, csr).startswith(b"HTTP/1.1 200")
    assert post(est, first, request("CN=linked")).startswith(b"HTTP/1.1 403")


def connection(pki: Pki, version: int) -> SSL.Connection:
    """A TLS connection to the enrolment listener."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(version)
    context.set_max_proto_version(version)
    context.load_verify_locations(str(pki.anchor_file))
    context.set_verify(SSL.VERIFY_PEER)
    plain = socket.create_connection(("localhost", pki.product.runtime.port("enroll")), timeout=30)
    plain.settimeout(None)
    found = SSL.Connection(context, plain)
    found.set_tlsext_host_name(b"localhost")
    found.set_connect_state()
    found.do_handshake()
    return found


def binding(found: SSL.Connection) -> bytes:
    """What names the connection: tls-unique, in TLS 1.3 tls-exporter."""
    if found.get_protocol_version_name() == "TLSv1.2":
        return found.get_finished() or b""
    return found.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")


def post(pki: Pki, found: SSL.Connection, csr: bytes) -> bytes:
    """The answer to simpleenroll on a connection."""
    body, login = base64.b64encode(csr), base64.b64encode(f"{USER}:{PASSWORD}".encode())
    head = f"POST /.well-known/est/linked/simpleenroll HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    found.sendall(head.encode() + b"Authorization: Basic " + login + b"\r\n\r\n" + body)
    answer = b""
    while b"\r\n\r\n" not in answer or len(answer.partition(b"\r\n\r\n")[2]) < length_of(answer):
        answer += found.recv(65536)
    return answer


def length_of(answer: bytes) -> int:
    lines = answer.partition(b"\r\n\r\n")[0].lower().split(b"\r\n")
    return int(next(line for line in lines if line.startswith(b"content-length:")).partition(b":")[2])


def test_an_unknown_label_is_not_found_and_says_so(est: Pki) -> None:
    status, body = curl(est, url(est, "cacerts", "nowhere"))
    assert (status, b"nowhere" in body) == (404, True)


def test_the_urls_that_are_listed_answer(est: Pki) -> None:
    listed = est.product.json("enroll", "urls", "--filter", "protocol=est", "--filter", f"ca={est.issuing}")
    port = est.product.runtime.port("enroll")
    for row in listed:
        for address in row["urls"]:
            path = address.partition("://")[2].partition("/")[2]
            assert curl(est, f"https://localhost:{port}/{path}/cacerts")[0] == 200


def test_the_commands_that_are_shown_work_as_they_stand(est: Pki, tmp_path: Path) -> None:
    titles = ("CA certificates", "Enrol with OpenSSL and curl", "Renew with OpenSSL and curl", "Enrol with strongSwan")
    type_shown(est, "est/default", titles, {"USER:PASSWORD": f"{USER}:{PASSWORD}"}, tmp_path)
    x509.load_pem_x509_certificate((tmp_path / "device.pem").read_bytes()).verify_directly_issued_by(est.issuer)


def strongswan_request(folder: Path, name: str) -> Path:
    key = attempt("pki", "--gen", "--type", "ecdsa", "--size", "256", "--outform", "pem")
    (folder / f"{name}.key").write_bytes(key.stdout)
    request = attempt("pki", "--req", "--in", folder / f"{name}.key", "--type", "ecdsa", "--dn", "CN=gateway",
                      "--outform", "pem")  # fmt: skip
    assert request.status == 0, request.output
    (folder / f"{name}.req").write_bytes(request.stdout)
    return folder / f"{name}.req"


def serial(certificate: x509.Certificate) -> bytes:
    return certificate.serial_number.to_bytes(20, "big")


def issued(certificate: x509.Certificate) -> Issued:
    return Issued(serial(certificate).hex().upper(), certificate.public_bytes(Encoding.DER))


def record(pki: Pki, certificate: x509.Certificate) -> tuple[str, str] | None:
    with pki.database() as database:
        found = database.execute(
            "SELECT channel, requester FROM certificate WHERE serial = %s", [serial(certificate)]
        ).fetchone()
    return None if found is None else (found[0], found[1])
