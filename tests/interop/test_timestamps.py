"""Timestamps as their users get them: by OpenSSL, curl, and the signing tools that ask for them."""

from __future__ import annotations

import base64
import concurrent.futures
import json
import re
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.clocks import Chronyd
from tests.support.folders import fast_folder
from tests.support.product import Product, eventually
from tests.support.programs import Outcome, attempt, run

POLICY = "1.3.6.1.4.1.99999.1"


@dataclass
class Stamping:
    """A server with two workers, a chronyd, and a three-level hierarchy; ``root`` is the root certificate (PEM)."""

    product: Product
    chronyd: Chronyd
    root: Path

    def url(self, issuer: str) -> str:
        return self.product.url("public", f"/tsa/{issuer}")

    def create(self, name: str, *options: str) -> str:
        """An issuer of its own for a test; its URL, at which it answers."""
        self.product.run("tsa", "issuer", "create", name, "--policy", POLICY, "--ca", "stamps~issuing", *options)
        eventually(lambda: self.status(name) == 405, what=f"{name} is there")
        return self.url(name)

    def status(self, name: str) -> int:
        """HTTP status of a GET, which costs nothing: 405 for an issuer that is there."""
        return int(run("curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", self.url(name)))

    def post(self, url: str, request: Path, reply: Path) -> Outcome:
        """What curl gets for a request; standard output is the status and the media type."""
        return attempt(
            "curl", "--silent", "--show-error", "--header", "Content-Type: application/timestamp-query",
            "--header", "Accept: application/timestamp-reply", "--data-binary", f"@{request}",
            "--write-out", "%{http_code} %{content_type}", "--output", reply, url,
        )  # fmt: skip

    def log(self, *words: str) -> list[dict[str, object]]:
        """Lines of the server's log with all these words."""
        lines = self.product.log.read_text().splitlines()
        return [json.loads(line) for line in lines if all(word in line for word in words) and line.startswith("{")]


@pytest.fixture(scope="module")
def stamping() -> Iterator[Stamping]:
    with tempfile.TemporaryDirectory(prefix="intaglio-stamps-", dir=fast_folder(), ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        chronyd = Chronyd(folder / "chrony")
        chronyd.start()
        product = Product(folder, WORKERS="2", PUBLIC_TLS__ENABLED="true", PUBLIC_TLS__PORT="0")
        product.run("init")
        try:
            product.start()
            product.run(
                "settings", "set", "timestamping.clock_source=chrony",
                f"timestamping.chrony_address={chronyd.address}", "timestamping.poll_interval=1",
                "timestamping.connection_timeout=10",  # a busy machine is no bad clock
            )  # fmt: skip
            product.run("org", "create", "stamps")
            below = ("--path-length", "1", "--option", "allow_issuing_below=true")
            for ca, options in (
                ("root", ("root",)),
                ("between", ("issuing", "--issuer", "root", *below)),
                ("issuing", ("issuing", "--issuer", "between")),
            ):
                kind, *others = options
                product.run(
                    "ca", "create", kind, f"stamps~{ca}", "--subject", f"CN={ca},O=Stamps", "--key", "P-256",
                    "--profile", "privatessl-tls-server", "--administrator", "alice", *others,
                )  # fmt: skip
            product.run("ca", "certificate", "stamps~root", "--out", folder / "root.pem")
            yield Stamping(product, chronyd, folder / "root.pem")
        finally:
            product.stop()
            chronyd.stop()


def test_openssl_and_curl_follow_the_usual_procedure(stamping: Stamping, tmp_path: Path) -> None:
    url = stamping.create("procedure", "--accuracy", "1s")
    data, request, reply = tmp_path / "data.txt", tmp_path / "q.tsq", tmp_path / "r.tsr"
    data.write_text("proof")
    run("openssl", "ts", "-query", "-data", data, "-sha256", "-cert", "-out", request)
    assert stamping.post(url, request, reply).output == "200 application/timestamp-reply"
    text = run("openssl", "ts", "-reply", "-in", reply, "-text")
    assert "Status: Granted." in text
    assert f"Policy OID: {POLICY}" in text
    assert "Accuracy: 0x01 seconds, unspecified millis, unspecified micros" in text
    # Three levels, and only the root is named: what is between comes with the token.
    for how in (("-data", data), ("-queryfile", request)):
        assert "Verification: OK" in run("openssl", "ts", "-verify", "-in", reply, "-CAfile", stamping.root, *how)
    data.write_text("forged")
    assert attempt("openssl", "ts", "-verify", "-in", reply, "-CAfile", stamping.root, "-data", data).status != 0
    run("openssl", "ts", "-query", "-data", data, "-sha256", "-out", tmp_path / "other.tsq")
    other = ("-queryfile", tmp_path / "other.tsq")
    assert attempt("openssl", "ts", "-verify", "-in", reply, "-CAfile", stamping.root, *other).status != 0


def test_timestamps_and_status_are_given_over_tls_where_that_is_opened(stamping: Stamping, tmp_path: Path) -> None:
    product = stamping.product
    stamping.create("protected")
    product.run("tls", "ca-certificate", "--out", tmp_path / "platform.pem")
    data, request, reply = tmp_path / "data", tmp_path / "data.tsq", tmp_path / "data.tsr"
    data.write_bytes(b"to be stamped")
    run("openssl", "ts", "-query", "-data", data, "-sha256", "-cert", "-out", request)
    curl = ("curl", "--silent", "--show-error", "--fail", "--cacert", tmp_path / "platform.pem")
    url = product.url("public_tls", "/tsa/protected")
    assert url.startswith("https://")
    query = ("--header", "Content-Type: application/timestamp-query", "--data-binary", f"@{request}")
    run(*curl, *query, "--output", reply, url)
    assert "Verification: OK" in run("openssl", "ts", "-verify", "-in", reply, "-CAfile", stamping.root, "-data", data)
    assert '"UP"' in run(*curl, product.url("public_tls", "/eva/health"))


def test_certificates_come_only_when_they_are_asked_for(stamping: Stamping, tmp_path: Path) -> None:
    url = stamping.create("bare")
    data, request, reply = tmp_path / "data.txt", tmp_path / "q.tsq", tmp_path / "r.tsr"
    data.write_text("proof")
    written = ("--certificate", tmp_path / "tsa.pem", "--chain", tmp_path / "ca.pem")
    stamping.product.run("tsa", "issuer", "show", "bare", *written)
    for wanted in (True, False):
        run("openssl", "ts", "-query", "-data", data, "-sha512", *(["-cert"] if wanted else []), "-out", request)
        assert stamping.post(url, request, reply).status == 0
        run("openssl", "ts", "-reply", "-in", reply, "-token_out", "-out", tmp_path / "token.der")
        shown = run("openssl", "cms", "-cmsout", "-print", "-inform", "der", "-in", tmp_path / "token.der", "-noout")
        assert shown.count("d.certificate:") == (3 if wanted else 0)
        (tmp_path / "all.pem").write_text((tmp_path / "tsa.pem").read_text() + (tmp_path / "ca.pem").read_text())
        given = () if wanted else ("-untrusted", tmp_path / "all.pem")
        verified = run(
            "openssl", "ts", "-verify", "-in", reply, "-CAfile", stamping.root, "-queryfile", request, *given
        )
        assert "Verification: OK" in verified
    assert "Time Stamp signing : Yes" in run("openssl", "x509", "-in", tmp_path / "tsa.pem", "-noout", "-purpose")
    extensions = run("openssl", "x509", "-in", tmp_path / "tsa.pem", "-noout", "-text")
    assert re.search(r"Extended Key Usage: critical\s+Time Stamping\n", extensions)


def test_a_jar_is_signed_with_a_timestamp(stamping: Stamping, tmp_path: Path) -> None:
    url = stamping.create("jars", "--key", "RSA-2048")
    store, jar = tmp_path / "signer.p12", tmp_path / "program.jar"
    (tmp_path / "Program.txt").write_text("program")
    run("jar", "--create", "--file", jar, "-C", tmp_path, "Program.txt")
    run(
        "keytool", "-genkeypair", "-alias", "signer", "-keyalg", "EC", "-groupname", "secp256r1", "-dname", "CN=Signer",
        "-ext", "EKU=codeSigning", "-keystore", store, "-storetype", "PKCS12", "-storepass", "changeit",
    )  # fmt: skip
    run(
        "keytool", "-importcert", "-noprompt", "-alias", "tsa", "-file", stamping.root, "-keystore", store,
        "-storetype", "PKCS12", "-storepass", "changeit",
    )  # fmt: skip
    run("jarsigner", "-keystore", store, "-storepass", "changeit", "-tsa", url, jar, "signer")
    told = run("jarsigner", "-verify", "-verbose", "-certs", "-keystore", store, "-storepass", "changeit", jar)
    assert "jar verified." in told
    assert "entry was signed on" in told
    assert "jars Timestamping" in told


def test_a_windows_program_is_signed_with_a_timestamp(stamping: Stamping, tmp_path: Path) -> None:
    url = stamping.create("windows", "--key", "RSA-2048")
    program, signed = tmp_path / "program.exe", tmp_path / "signed.exe"
    program.write_bytes(_portable_executable())
    run(
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", tmp_path / "signer.key",
        "-out", tmp_path / "signer.pem", "-subj", "/CN=Signer", "-days", "30",
        "-addext", "extendedKeyUsage=critical,codeSigning", "-addext", "keyUsage=critical,digitalSignature,keyCertSign",
    )  # fmt: skip
    run(
        "osslsigncode", "sign", "-certs", tmp_path / "signer.pem", "-key", tmp_path / "signer.key", "-h", "sha256",
        "-ts", url, "-in", program, "-out", signed,
    )  # fmt: skip
    told = run(
        "osslsigncode", "verify", "-CAfile", tmp_path / "signer.pem", "-TSA-CAfile", stamping.root, "-in", signed
    )
    assert "Timestamp Server Signature verification: ok" in told
    assert "Signature verification: ok" in told
    assert "Succeeded" in told


def test_a_pdf_is_signed_with_a_timestamp(stamping: Stamping, tmp_path: Path) -> None:
    url = stamping.create("pdfs")
    run(
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", tmp_path / "signer.key",
        "-out", tmp_path / "signer.pem", "-subj", "/CN=Signer", "-days", "30",
        "-addext", "keyUsage=critical,digitalSignature,nonRepudiation",
    )  # fmt: skip
    from tests.interop import pdf

    status = pdf.sign_and_validate(tmp_path, url, [tmp_path / "signer.pem", stamping.root])
    assert status.intact
    assert status.valid
    assert status.trusted
    assert status.timestamp_validity is not None
    assert status.timestamp_validity.valid
    assert status.timestamp_validity.trusted


def test_sigstore_verifies_a_timestamp(stamping: Stamping) -> None:
    import cryptography.x509 as x509
    import httpx
    from rfc3161_client import TimestampRequestBuilder, VerifierBuilder, decode_timestamp_response

    url = stamping.create("sigstore")
    request = TimestampRequestBuilder().data(b"artifact").nonce(nonce=True).cert_request(cert_request=True).build()
    answer = httpx.post(url, content=request.as_bytes(), headers={"Content-Type": "application/timestamp-query"})
    response = decode_timestamp_response(answer.content)
    root = x509.load_pem_x509_certificate(stamping.root.read_bytes())
    verifier = VerifierBuilder.from_request(request).add_root_certificate(root).build()
    assert verifier.verify_message(response, b"artifact")


@pytest.mark.parametrize("options", [("--key", "P-256"), ("--key", "RSA-3072", "--digest", "sha512", "--qualified")])
def test_bouncy_castle_verifies_a_timestamp(stamping: Stamping, tmp_path: Path, options: tuple[str, ...]) -> None:
    url = stamping.create(f"bouncy-{options[1].lower()}", *options, "--accuracy", "500ms")
    classpath = ":".join(["/usr/share/java/bcpkix.jar", "/usr/share/java/bcprov.jar", "/usr/share/java/bcutil.jar"])
    run("javac", "-d", tmp_path, "-cp", classpath, Path(__file__).with_name("java") / "Timestamps.java")
    told = run("java", "-XX:TieredStopAtLevel=1", "-cp", f"{classpath}:{tmp_path}", "Timestamps", url)
    assert "granted and valid" in told
    assert f"policy {POLICY}" in told
    assert "accuracy 500 ms" in told


def test_ordered_tokens_of_two_workers_have_strictly_increasing_times(stamping: Stamping, tmp_path: Path) -> None:
    import httpx

    from intaglio.timestamping.reading import TokenInfo, read_reply
    from intaglio.timestamping.verification import make_query

    url = stamping.create("ordered", "--ordering", "--serial-octets", "16")

    def ask(count: int) -> list[TokenInfo]:
        with httpx.Client(headers={"Content-Type": "application/timestamp-query"}, timeout=60) as client:
            found = []
            for _ in range(count):
                query = make_query(bytes(32), "sha256", certificates=False)
                found.append(read_reply(client.post(url, content=query.der).content).info)
            return found

    with concurrent.futures.ThreadPoolExecutor(20) as threads:
        askers = list(threads.map(ask, [50] * 20))
    every = [info for found in askers for info in found]
    assert len({info.time for info in every}) == 1000
    assert len({info.serial for info in every}) == 1000
    assert all(len(info.serial) == 16 and info.ordering for info in every)
    for found in askers:
        assert [info.time for info in found] == sorted(info.time for info in found)


def test_no_timestamps_while_chronyd_is_away_and_again_when_it_is_back(stamping: Stamping, tmp_path: Path) -> None:
    url = stamping.create("clocked")
    data, request, reply = tmp_path / "data.txt", tmp_path / "q.tsq", tmp_path / "r.tsr"
    data.write_text("proof")
    run("openssl", "ts", "-query", "-data", data, "-sha256", "-cert", "-out", request)

    def answer() -> str:
        assert stamping.post(url, request, reply).output == "200 application/timestamp-reply"
        return attempt("openssl", "ts", "-reply", "-in", reply, "-text").output

    eventually(lambda: "Status: Granted." in answer(), what="timestamps are given")
    stamping.chronyd.stop()
    try:
        # Every worker checks the clock for itself, and who answers is chance.
        eventually(
            lambda: all("The time is not available." in answer() for _ in range(8)), what="the clock counts as bad"
        )
        status = ("curl", "--silent", "--write-out", "%{http_code}", stamping.url("health"))
        eventually(lambda: run(*status).endswith("503"), what="the health tells it")
        checked = stamping.product.attempt("tsa", "check", "clock")
        assert checked.status == 1
        assert "clock: FAILED" in checked.output
        eventually(lambda: stamping.log("ProcessTimeStampRequest.Failed", "clocked", "BadClock"), what="it is logged")
        line = stamping.log("ProcessTimeStampRequest.Failed", "clocked", "BadClock")[0]
        assert line["level"] == "info"
        assert line["msg"] == "ProcessTimeStampRequest.Failed"
        assert line["tsa-log"] == {"tsa-pkistatus-string": "TimeNotAvailableTSError"}
        assert line["cause"]["cause"]["cause"]["msg"] == "BadClock"  # type: ignore[index]
        # A chronyd that does not know the time itself is no help.
        stamping.chronyd.start(synchronized=False)
        eventually(lambda: "not synchronized" in _cause(stamping), what="chronyd is asked again")
        assert "Status: Granted." not in answer()
        stamping.chronyd.stop()
    finally:
        stamping.chronyd.start()
    eventually(lambda: all("Status: Granted." in answer() for _ in range(8)), what="timestamps are given again")
    eventually(lambda: stamping.product.attempt("tsa", "check", "clock").status == 0, what="the check is content")


def test_an_idle_connection_is_closed(stamping: Stamping) -> None:
    port = stamping.product.runtime.port("public")
    with socket.create_connection(("localhost", port), timeout=60) as connection:
        connection.sendall(b"GET /tsa/health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        received = b""
        while part := connection.recv(65536):  # ends when the server closes; fails when it does not within a minute
            received += part
    assert received.startswith(b"HTTP/1.1 ")


def test_responses_are_logged_where_that_is_asked_for(stamping: Stamping, tmp_path: Path) -> None:
    url = stamping.create("logged", "--log-responses")
    data, request, reply = tmp_path / "data.txt", tmp_path / "q.tsq", tmp_path / "r.tsr"
    data.write_text("proof")
    run("openssl", "ts", "-query", "-data", data, "-sha256", "-out", request)
    stamping.post(url, request, reply)
    eventually(lambda: stamping.log("tsa-timestampresponse-encoded", "logged"), what="the response is logged")
    encoded = str(stamping.log("tsa-timestampresponse-encoded", "logged")[0]["tsa-timestampresponse-encoded"])
    assert base64.b64decode(encoded) == reply.read_bytes()


def test_a_file_is_stamped_and_verified_by_our_own_commands(stamping: Stamping, tmp_path: Path) -> None:
    url = stamping.create("files", "--hash", "sha256", "--hash", "sha3-256")
    contract = tmp_path / "contract.txt"
    contract.write_text("agreed")
    stamping.product.run("tsa", "stamp", contract, "--url", url)
    told = stamping.product.run("tsa", "verify", contract, "--root", stamping.root)
    assert told.startswith(f"Good: {contract} existed at ")
    reply = f"{contract}.tsr"
    assert "OK" in run("openssl", "ts", "-verify", "-data", contract, "-in", reply, "-CAfile", stamping.root)
    contract.write_text("changed")
    refused = stamping.product.attempt("tsa", "verify", contract, "--root", stamping.root)
    assert refused.status == 1
    assert "about other data" in refused.output
    refused = stamping.product.attempt("tsa", "stamp", contract, "--url", url, "--hash", "sha1")
    assert "badAlg" in refused.output


def test_an_issuer_is_changed_renewed_and_deleted_by_command(stamping: Stamping) -> None:
    stamping.create("commands", "--accuracy", "1s")
    product = stamping.product
    before = product.json("tsa", "issuer", "show", "commands")
    product.run("tsa", "issuer", "set", "commands", "--accuracy", "none", "--qualified", "--hash", "sha512",
                "--digest", "sha512")  # fmt: skip
    product.run("tsa", "issuer", "renew", "commands")
    after = product.json("tsa", "issuer", "show", "commands")
    assert (after["profile"]["accuracy"], after["profile"]["qualified"]) == (None, True)
    assert (after["profile"]["hashes"], after["profile"]["digest"]) == (["sha512"], "sha512")
    assert after["certificate"]["serial_number"] != before["certificate"]["serial_number"]
    assert "commands" in product.run("tsa", "issuer", "list")
    assert product.run("tsa", "url", "commands").strip() == after["url"]
    assert "serial_octets" in product.attempt("tsa", "issuer", "validate", "commands", "--serial-octets", "7").output
    product.run("tsa", "issuer", "delete", "commands", "--yes")
    eventually(lambda: stamping.status("commands") == 404, what="it is gone")
    assert product.attempt("tsa", "issuer", "show", "commands").status == 1


def test_a_foreign_ca_certifies_an_issuer(stamping: Stamping, tmp_path: Path) -> None:
    product, made = stamping.product, tmp_path / "foreign"
    made.mkdir()
    run(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-nodes",
        "-subj", "/CN=Foreign", "-keyout", made / "ca.key", "-out", made / "ca.pem", "-days", "90",
        "-addext", "keyUsage=critical,keyCertSign", "-addext", "basicConstraints=critical,CA:TRUE",
    )  # fmt: skip
    product.run("tsa", "issuer", "create", "foreign", "--policy", POLICY, "--key", "P-384", "--csr", made / "tsa.csr")
    run("openssl", "req", "-verify", "-noout", "-in", made / "tsa.csr")
    (made / "good.cnf").write_text("extendedKeyUsage=critical,timeStamping\nkeyUsage=critical,digitalSignature\n")
    (made / "bad.cnf").write_text("extendedKeyUsage=timeStamping,codeSigning\n")
    for kind in ("good", "bad"):
        run(
            "openssl", "x509", "-req", "-in", made / "tsa.csr", "-CA", made / "ca.pem", "-CAkey", made / "ca.key",
            "-days", "30", "-extfile", made / f"{kind}.cnf", "-out", made / f"{kind}.pem",
        )  # fmt: skip
    judged = product.attempt(
        "tsa", "issuer", "validate", "foreign", "--certificate", made / "bad.pem", "--chain", made / "ca.pem"
    )
    assert judged.status == 1
    assert "timeStamping alone" in judged.output
    refused = product.attempt("tsa", "issuer", "import", "foreign", made / "good.pem")
    assert "is missing in the chain" in refused.output
    product.run("tsa", "issuer", "import", "foreign", made / "good.pem", "--chain", made / "ca.pem")
    data, request, reply = tmp_path / "data.txt", tmp_path / "q.tsq", tmp_path / "r.tsr"
    data.write_text("proof")
    run("openssl", "ts", "-query", "-data", data, "-sha384", "-cert", "-out", request)
    eventually(lambda: stamping.status("foreign") == 405, what="the issuer is there")
    eventually(lambda: _granted(stamping, "foreign", request, reply), what="it signs")
    assert "OK" in run("openssl", "ts", "-verify", "-in", reply, "-CAfile", made / "ca.pem", "-data", data)


def _granted(stamping: Stamping, issuer: str, request: Path, reply: Path) -> bool:
    stamping.post(stamping.url(issuer), request, reply)
    return "Status: Granted." in attempt("openssl", "ts", "-reply", "-in", reply, "-text").output


def _cause(stamping: Stamping) -> str:
    health = json.loads(run("curl", "--silent", stamping.url("health")))
    return str(health["clock"].get("cause", ""))


def _portable_executable() -> bytes:
    """The smallest 32-bit Windows program that a signing tool takes for one: headers and one section of code.

    Source: Microsoft, PE Format.
    """
    from struct import pack

    dos = b"MZ" + bytes(58) + pack("<I", 64)
    coff = b"PE\0\0" + pack("<HHIIIHH", 0x14C, 1, 0, 0, 0, 224, 0x102)
    optional = pack("<HBBIIIIII", 0x10B, 14, 0, 512, 0, 0, 0x1000, 0x1000, 0x2000)
    optional += pack("<IIIHHHHHHIIIIHHIIIIII", 0x400000, 0x1000, 512, 4, 0, 0, 0, 4, 0, 0, 0x2000, 512, 0, 3, 0,
                     0x100000, 0x1000, 0x100000, 0x1000, 0, 16)  # fmt: skip
    section = b".text\0\0\0" + pack("<IIIIIIHHI", 1, 0x1000, 512, 512, 0, 0, 0, 0, 0x60000020)
    head = dos + coff + optional + bytes(128) + section
    return head.ljust(512, b"\0") + b"\xc3".ljust(512, b"\0")
