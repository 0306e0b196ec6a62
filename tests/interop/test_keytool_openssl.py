"""`intaglio keytool` and OpenSSL do the same four steps, and each takes what the other made."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest
from tests.support.commands import SCRIPT, intaglio
from tests.support.programs import PATIENCE, Outcome, program, refused, run

_PASSWORD, _OTHER = "correct horse battery staple", "another purple elephant dances"


class Desk:
    """A folder with two password files in which both programs work."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "pw").write_text(f"{_PASSWORD}\n")
        (folder / "pw2").write_text(f"{_OTHER}\n")

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def keytool(self, *arguments: str | Path) -> str:
        said = self._say(*arguments)
        assert said.status == 0, said.output
        return said.output

    def refused(self, *arguments: str | Path) -> str:
        said = self._say(*arguments)
        assert said.status != 0, said.output
        return said.output

    def json(self, *arguments: str | Path) -> object:
        said = self._say(*arguments, "--json")
        assert said.status == 0, said.output
        return json.loads(said.stdout)

    def _say(self, *arguments: str | Path) -> Outcome:
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        return intaglio("keytool", *arguments, environment=environment, cwd=self.folder)

    def openssl(self, *arguments: str | Path) -> str:
        return run("openssl", *arguments, cwd=self.folder)

    def walk(self, algorithm: str = "P-256", *more: str) -> None:
        """client.key, client.csr, client.crt, client.p12 by our four steps."""
        self.keytool("key", "generate", "--algorithm", algorithm, "--out", "client.key", "--password-file", "pw")
        self.keytool(
            "csr", "--key", "client.key", "--password-file", "pw", "--subject", "CN=alice,O=Example,C=CA",
            "--email", "alice@example.com", "--out", "client.csr",
        )  # fmt: skip
        self.keytool(
            "cert", "client.csr", "--self-signed", "--key", "client.key", "--password-file", "pw",
            "--out", "client.crt", *more,
        )  # fmt: skip
        self.keytool(
            "p12", "create", "--key", "client.key", "--key-password-file", "pw", "--cert", "client.crt",
            "--password-file", "pw2", "--out", "client.p12",
        )  # fmt: skip


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


# ---- ours, read by OpenSSL -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "text"),
    [
        ("rsa-2048", "(2048 bit"), ("rsa-3072", "(3072 bit"), ("rsa-4096", "(4096 bit"), ("P-256", "prime256v1"),
        ("P-384", "secp384r1"), ("P-521", "secp521r1"), ("ed25519", "ED25519"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ("encryption", "cipher"), [("aes-256", "aes-256-cbc"), ("aes-128", "aes-128-cbc"), ("3des", "des-ede3-cbc")]
)
def test_openssl_opens_every_key(desk: Desk, algorithm: str, text: str, encryption: str, cipher: str) -> None:
    if algorithm.startswith("rsa") and encryption != "aes-256":
        algorithm, text = "P-256", "prime256v1"  # the cipher does not depend on the key, and RSA takes its time
    desk.keytool(
        "key", "generate", "--algorithm", algorithm, "--out", "client.key", "--password-file", "pw",
        "--encryption", encryption,
    )  # fmt: skip
    assert text in desk.openssl("pkey", "-in", "client.key", "-passin", "file:pw", "-noout", "-text")
    structure = desk.openssl("asn1parse", "-in", "client.key")
    for expected in ("PBES2", "PBKDF2", "hmacWithSHA256", cipher):
        assert expected in structure
    assert stat.S_IMODE(os.stat(desk / "client.key").st_mode) == 0o600


def test_the_key_file_has_the_structure_of_genpkey(desk: Desk) -> None:
    desk.keytool("key", "generate", "--algorithm", "rsa-4096", "--out", "ours.key", "--password-file", "pw")
    desk.openssl(
        "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:4096", "-out", "theirs.key", "-aes256",
        "-pass", "file:pw",
    )  # fmt: skip
    assert _shape(desk, "ours.key") == _shape(desk, "theirs.key")
    plain = [_shape(desk, _opened(desk, name)) for name in ("ours.key", "theirs.key")]
    assert plain[0] == plain[1]


def _shape(desk: Desk, name: str) -> list[str]:
    """Nesting, types and object identifiers; not the lengths and values, which are random."""
    lines = desk.openssl("asn1parse", "-in", name).splitlines()
    return [line.split(":")[1][:3] + line.split(":", 2)[2].replace("cons", "").split(":")[0].strip().split("  ")[0]
            + (line.rpartition(":")[2] if "OBJECT" in line else "") for line in lines]  # fmt: skip


def _opened(desk: Desk, name: str) -> str:
    desk.openssl("pkcs8", "-topk8", "-nocrypt", "-in", name, "-passin", "file:pw", "-out", f"{name}.open")
    return f"{name}.open"


@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
def test_openssl_verifies_request_and_certificate(desk: Desk, digest: str) -> None:
    desk.walk("P-384", "--digest", digest)
    text = desk.openssl("req", "-in", "client.csr", "-verify", "-noout", "-text")
    assert "verify OK" in text
    assert "email:alice@example.com" in text
    desk.openssl("verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", "client.crt", "client.crt")
    certificate = desk.openssl("x509", "-in", "client.crt", "-noout", "-text")
    for expected in (
        "Version: 3", f"ecdsa-with-{digest.upper()}", "Digital Signature", "TLS Web Client Authentication",
        "Subject Key Identifier", "email:alice@example.com",
    ):  # fmt: skip
        assert expected in certificate
    desk.openssl("x509", "-in", "client.crt", "-checkend", str(364 * 86_400))


def test_openssl_opens_the_pkcs12_that_the_walk_through_ends_with(desk: Desk) -> None:
    desk.walk("rsa-2048", "--digest", "sha384")
    told = desk.openssl("pkcs12", "-in", "client.p12", "-passin", "file:pw2", "-info", "-noout")
    assert told.count("AES-256-CBC") == 2
    assert "MAC: sha256, Iteration 100000" in told
    desk.openssl("pkcs12", "-in", "client.p12", "-passin", "file:pw2", "-nodes", "-out", "all.pem")
    assert _public(desk, "all.pem") == desk.openssl("x509", "-in", "client.crt", "-noout", "-pubkey")


@pytest.mark.parametrize(
    ("variant", "options", "expected"),
    [
        ("aes-128", (), ("AES-128-CBC", "MAC: sha256")),
        ("compatible", ("-legacy",), ("pbeWithSHA1And3-KeyTripleDES-CBC", "MAC: sha1")),
    ],
)
def test_openssl_opens_the_other_variants_of_the_same_key(
    desk: Desk, variant: str, options: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    desk.walk()
    desk.keytool(
        "p12", "convert", "client.p12", "--old-password-file", "pw2", "--variant", variant, "--password-file", "pw2",
        "--mac-iterations", "5000", "--out", "other.p12",
    )  # fmt: skip
    told = desk.openssl("pkcs12", *options, "-in", "other.p12", "-passin", "file:pw2", "-info", "-noout")
    for text in (*expected, "Iteration 5000"):
        assert text in told
    desk.openssl("pkcs12", *options, "-in", "other.p12", "-passin", "file:pw2", "-nodes", "-out", "all.pem")
    assert _public(desk, "all.pem") == desk.openssl("x509", "-in", "client.crt", "-noout", "-pubkey")


def _public(desk: Desk, name: str) -> str:
    return desk.openssl("pkey", "-in", name, "-pubout")


# ---- theirs, read by us ----------------------------------------------------------------------------------------------


def test_what_the_walk_through_with_openssl_makes_is_read(desk: Desk) -> None:
    desk.openssl(
        "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:4096", "-out", "client.key", "-aes256",
        "-pass", "file:pw",
    )  # fmt: skip
    desk.openssl(
        "req", "-new", "-key", "client.key", "-passin", "file:pw", "-out", "client.csr", "-sha256", "-subj", "/CN=alice"
    )
    desk.openssl(
        "x509", "-req", "-days", "365", "-in", "client.csr", "-signkey", "client.key", "-passin", "file:pw",
        "-out", "client.crt", "-sha384",
    )  # fmt: skip
    desk.openssl(
        "pkcs12", "-export", "-out", "client.p12", "-inkey", "client.key", "-passin", "file:pw", "-in", "client.crt",
        "-keypbe", "AES-256-CBC", "-certpbe", "AES-256-CBC", "-macalg", "sha256", "-passout", "file:pw2",
    )  # fmt: skip
    key, csr, crt = (desk.json("inspect", f"client.{name}") for name in ("key", "csr", "crt"))
    assert isinstance(key, list)
    assert isinstance(csr, list)
    assert isinstance(crt, list)
    assert key[0]["encryption"] == "AES-256-CBC"
    assert csr[0]["subject"] == crt[0]["subject"] == "CN=alice"
    assert "no extensions" in " ".join(crt[0]["warnings"])
    p12 = desk.json("inspect", "client.p12", "--password-file", "pw2")
    assert isinstance(p12, list)
    assert (p12[0]["mac"], p12[0]["key_algorithm"]) == ("sha256", "rsa-4096")
    assert "2048 iterations" in " ".join(p12[0]["warnings"])
    _extracted_equals(desk, "client.p12", "client.crt")


def _extracted_equals(desk: Desk, p12: str, certificate: str) -> None:
    desk.keytool(
        "p12", "extract", p12, "--password-file", "pw2", "--key-out", "out.key", "--cert-out", "out.crt", "--force"
    )
    assert (desk / "out.crt").read_text() == desk.openssl("x509", "-in", certificate)
    own = desk.openssl("pkey", "-in", "out.key", "-passin", "file:pw2", "-pubout")
    assert own == desk.openssl("x509", "-in", certificate, "-noout", "-pubkey")


@pytest.mark.parametrize(
    "options",
    [
        (), ("-legacy",), ("-legacy", "-descert"), ("-keypbe", "AES-128-CBC", "-certpbe", "AES-128-CBC"),
        ("-keypbe", "AES-256-CBC", "-certpbe", "NONE"), ("-macalg", "sha512"), ("-macalg", "sha1"), ("-nomac",),
        ("-iter", "50000"), ("-keypbe", "DES-EDE3-CBC", "-certpbe", "AES-192-CBC"),
    ],
)  # fmt: skip
def test_every_pkcs12_openssl_can_write_is_read(desk: Desk, options: tuple[str, ...]) -> None:
    _theirs(desk)
    desk.openssl(
        "pkcs12", "-export", *options, "-inkey", "their.key", "-in", "their.crt", "-name", "bob", "-out", "their.p12",
        "-passout", "file:pw2",
    )  # fmt: skip
    _extracted_equals(desk, "their.p12", "their.crt")


@pytest.mark.parametrize(
    "command",
    [
        ("ec", "-aes256"), ("ec", "-aes128"), ("ec", "-des3"), ("pkcs8", "-topk8", "-v2", "aes-128-cbc"),
        ("pkcs8", "-topk8", "-v2", "des3"), ("pkcs8", "-topk8", "-scrypt"),
        ("pkcs8", "-topk8", "-v2prf", "hmacWithSHA512"),
        ("pkcs8", "-topk8", "-v1", "PBE-SHA1-3DES"), ("pkcs8", "-topk8", "-v2prf", "hmacWithSHA1"),
        ("pkcs8", "-topk8", "-outform", "der"),
    ],
)  # fmt: skip
def test_every_encrypted_key_openssl_can_write_is_read(desk: Desk, command: tuple[str, ...]) -> None:
    _theirs(desk)
    desk.openssl(*command, "-in", "their.key", "-out", "locked.key", "-passout", "file:pw2")
    desk.keytool(
        "key", "protect", "locked.key", "--old-password-file", "pw2", "--password-file", "pw", "--out", "new.key"
    )
    assert desk.openssl("pkey", "-in", "new.key", "-passin", "file:pw", "-pubout") == _public(desk, "their.key")


def _theirs(desk: Desk) -> None:
    desk.openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "their.key",
        "-out", "their.crt", "-subj", "/CN=bob", "-days", "30",
    )  # fmt: skip


# ---- sharing, converting, verifying ----------------------------------------------------------------------------------


def test_fingerprint_and_pin_are_those_openssl_computes(desk: Desk) -> None:
    desk.walk()
    shared = desk.json("share", "client.crt", "--der-out", "client.cer")
    assert isinstance(shared, dict)
    told = desk.openssl("x509", "-in", "client.crt", "-noout", "-fingerprint", "-sha256")
    assert told.strip().endswith(shared["sha256"])
    desk.openssl("x509", "-in", "client.crt", "-noout", "-pubkey", "-out", "public.pem")
    desk.openssl("pkey", "-pubin", "-in", "public.pem", "-outform", "der", "-out", "public.der")
    desk.openssl("dgst", "-sha256", "-binary", "-out", "digest", "public.der")
    pin = desk.openssl("base64", "-in", "digest").strip()
    assert shared["spki_pin"] == f"sha256//{pin}"
    assert desk.openssl("x509", "-inform", "der", "-in", "client.cer") == (desk / "client.crt").read_text()


def test_a_file_with_a_private_key_is_never_shared(desk: Desk) -> None:
    desk.walk()
    (desk / "both.pem").write_text((desk / "client.crt").read_text() + (desk / "client.key").read_text())
    assert "private key" in desk.refused("share", "both.pem")


def test_pkcs7_goes_there_and_back(desk: Desk) -> None:
    desk.walk()
    desk.keytool("convert", "client.crt", "--to", "p7b", "--out", "client.p7b")
    assert "CN = alice" in desk.openssl("pkcs7", "-in", "client.p7b", "-print_certs", "-noout")
    desk.openssl("crl2pkcs7", "-nocrl", "-certfile", "client.crt", "-outform", "der", "-out", "their.p7b")
    assert desk.keytool("convert", "their.p7b", "--to", "pem", "--out", "-") == (desk / "client.crt").read_text()


def test_the_verdict_is_that_of_openssl(desk: Desk) -> None:
    desk.walk()
    _theirs(desk)
    desk.keytool("verify", "client.crt", "--ca-file", "client.crt", "--purpose", "client")
    told = desk.refused("verify", "client.crt", "--ca-file", "their.crt")
    assert "self_signed" in told
    assert "Not valid." in told
    refused("openssl", "verify", "-CAfile", "their.crt", "client.crt", cwd=desk.folder)


# ---- files and passwords ---------------------------------------------------------------------------------------------


def test_nothing_is_overwritten_and_the_request_is_cleaned_up_on_demand(desk: Desk) -> None:
    desk.walk()
    before = (desk / "client.key").read_bytes()
    assert "exists" in desk.refused("key", "generate", "--out", "client.key", "--password-file", "pw")
    assert (desk / "client.key").read_bytes() == before
    desk.keytool(
        "cert", "client.csr", "--self-signed", "--key", "client.key", "--password-file", "pw", "--out", "second.crt",
        "--delete-csr",
    )  # fmt: skip
    assert not (desk / "client.csr").exists()
    modes = {name: stat.S_IMODE(os.stat(desk / name).st_mode) for name in ("client.key", "client.p12", "client.crt")}
    assert modes == {"client.key": 0o600, "client.p12": 0o600, "client.crt": 0o644}
    assert {path.name for path in desk.folder.iterdir() if path.name.startswith(".")} == set()


def test_an_unencrypted_key_is_warned_of(desk: Desk) -> None:
    assert "without encryption" in desk.keytool("key", "generate", "--out", "open.key", "--no-encryption")
    os.chmod(desk / "open.key", 0o644)
    told = desk.keytool("csr", "--key", "open.key", "--subject", "CN=x", "--out", "x.csr")
    assert "not encrypted" in told
    assert "open to others" in told


def test_equal_and_weak_passwords_are_pointed_out(desk: Desk) -> None:
    desk.walk()
    told = desk.keytool(
        "p12", "create", "--key", "client.key", "--key-password-file", "pw", "--cert", "client.crt",
        "--password-file", "pw", "--out", "same.p12",
    )  # fmt: skip
    assert "same password" in told
    (desk / "weak").write_text("password1\n")
    assert "12 to 256 characters" in desk.refused("key", "generate", "--out", "w.key", "--password-file", "weak")
    told = desk.keytool(
        "key", "generate", "--out", "w.key", "--password-file", "weak", "--accept-weak-password"
    )
    assert "easy to guess" in told


def test_self_signing_needs_its_flag(desk: Desk) -> None:
    desk.walk()
    told = desk.refused("cert", "client.csr", "--key", "client.key", "--password-file", "pw", "--out", "x.crt")
    assert "--self-signed" in told
    assert not (desk / "x.crt").exists()


def test_a_generated_password_is_shown_once_or_written_for_its_owner(desk: Desk) -> None:
    made = desk.json("key", "generate", "--out", "a.key", "--generate-password")
    assert isinstance(made, dict)
    (desk / "shown").write_text(made["password"])
    desk.openssl("pkey", "-in", "a.key", "-passin", "file:shown", "-noout")
    desk.keytool("key", "generate", "--out", "b.key", "--generate-password", "--password-out", "written")
    assert stat.S_IMODE(os.stat(desk / "written").st_mode) == 0o600
    desk.openssl("pkey", "-in", "b.key", "-passin", "file:written", "-noout")


def test_no_password_is_ever_seen_by_ps(desk: Desk) -> None:
    """The password arrives late on a descriptor, so that the process is certainly alive when ps looks."""
    reading, writing = os.pipe()
    command = [
        str(SCRIPT), "keytool", "key", "generate", "--out", "client.key", "--password-fd", str(reading),
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=desk.folder, pass_fds=(reading,), stdout=subprocess.DEVNULL)
    try:
        os.close(reading)
        seen = run("ps", "-o", "args=", "-e", "-ww")
        environment = Path(f"/proc/{process.pid}/environ").read_bytes()
        os.write(writing, f"{_PASSWORD}\n".encode())
    finally:
        os.close(writing)
        assert process.wait(PATIENCE) == 0
    assert "keytool key generate" in seen
    assert _PASSWORD not in seen
    assert _PASSWORD.encode() not in environment
    assert program("openssl")
    desk.openssl("pkey", "-in", "client.key", "-passin", "file:pw", "-noout")


def test_no_command_takes_a_password_as_an_argument() -> None:
    for noun in ("key generate", "key protect", "csr", "cert", "p12 create", "p12 extract", "p12 convert", "inspect"):
        told = run(str(SCRIPT), "keytool", *noun.split(), "--help")
        assert "--password-file" in told
        assert "--password " not in told
