"""CMP with OpenSSL's client: every command it knows, shared secrets and certificates, and what a base station does."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from tests.support.cmp_client import CmpClient
from tests.support.foreign import ForeignCa, key_pem
from tests.support.pki import PLAIN, NewName, Pki, admin, ok
from tests.support.product import NewProduct, eventually
from tests.support.programs import program
from tests.support.shown_commands import type_shown

from intaglio.asn1.cmp import Body
from intaglio.core import clock

PROFILE = "cmp-digital-signature"
_PROFILES = [PROFILE, "cmp-key-encipherment", "cmp-digital-signature-key-encipherment", "cmp-non-repudiation"]
_PATIENCE = 60


@dataclass(frozen=True)
class Desk:
    """A CMP endpoint of a PKI, and its shared secret."""

    pki: Pki
    name: str
    reference: str
    secret: str
    folder: Path

    @property
    def url(self) -> str:
        return self.pki.product.url("public", f"/.well-known/cmp/p/{self.name}")

    @property
    def by_secret(self) -> tuple[str, ...]:
        return ("-ref", self.reference, "-secret", f"pass:{self.secret}")

    @property
    def trusting(self) -> tuple[str, ...]:
        return ("-trusted", str(self.pki.root_file))

    def cmp(self, command: str, *arguments: object, good: bool = True, url: str = "") -> str:
        """What ``openssl cmp`` says; it has to succeed, or fail, as expected."""
        return self.openssl(
            "cmp", "-config", "", "-server", url or self.url, "-cmd", command, *arguments, good=good
        )

    def openssl(self, *arguments: object, good: bool = True) -> str:
        done = subprocess.run(
            ["openssl", *map(str, arguments)], cwd=self.folder, capture_output=True, check=False, timeout=_PATIENCE
        )
        said = (done.stdout + done.stderr).decode(errors="replace")
        assert (done.returncode == 0) is good, f"openssl {' '.join(map(str, arguments))}: {done.returncode}\n{said}"
        return said

    def key(self, name: str = "new.key", kind: str = "ec") -> Path:
        options = {"ec": ("EC", "ec_paramgen_curve:P-256"), "rsa": ("RSA", "rsa_keygen_bits:2048")}
        algorithm, option = options[kind]
        self.openssl("genpkey", "-algorithm", algorithm, "-pkeyopt", option, "-out", name)
        return self.folder / name

    def certificate(self, name: str = "new.pem") -> x509.Certificate:
        return x509.load_pem_x509_certificate((self.folder / name).read_bytes())

    def enrol(self, name: str, *arguments: object, prefix: str = "new") -> x509.Certificate:
        """A first certificate by the shared secret, as ``<prefix>.pem`` beside its key."""
        self.key(f"{prefix}.key")
        self.cmp(
            "ir", *self.by_secret, "-newkey", f"{prefix}.key", "-subject", f"/CN={name}",
            "-certout", f"{prefix}.pem", *arguments,
        )  # fmt: skip
        return self.certificate(f"{prefix}.pem")

    def state(self, certificate: x509.Certificate) -> str:
        with admin(self.pki.product) as http:
            found = ok(http.get(f"/cas/{self.pki.issuing}/certificates/{certificate.serial_number:X}")).json()
        return str(found["state"])

    def change(self, **changes: Any) -> None:
        with admin(self.pki.product) as http:
            ok(http.patch(f"/enrollment/endpoints/cmp/{self.name}", json=changes))


MakeDesk = Callable[..., Desk]


@pytest.fixture(scope="module")
def cmp_pki(product) -> Pki:
    return Pki.create(product, "cmp", profiles=_PROFILES)


@pytest.fixture
def new_desk(cmp_pki: Pki, new_name: NewName, tmp_path: Path) -> MakeDesk:
    """A function that makes an endpoint with options of its own, under a tenant of its own."""

    def make(profile: str = PROFILE, **changes: Any) -> Desk:
        name = new_name("cmp", "")
        with admin(cmp_pki.product) as http:
            ok(http.post("/enrollment/tenants", json={"name": name}))
            wish = {"protocol": "cmp", "ca": cmp_pki.issuing, "profile": profile, "name": name, "tenant": name}
            ok(http.post("/enrollment/endpoints", json={**wish, **changes}))
            body = {"kind": "mac", "name": f"{name}-ref"}
            made = ok(http.post(f"/enrollment/endpoints/cmp/{name}/credentials", json=body)).json()
        return Desk(cmp_pki, name, f"{name}-ref", made["secret"], tmp_path)

    return make


@pytest.fixture
def desk(new_desk: MakeDesk) -> Desk:
    return new_desk()


def common_name(certificate: x509.Certificate) -> str:
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def test_a_device_gets_its_first_certificate_by_a_shared_secret(desk: Desk, new_name: NewName) -> None:
    name = new_name("device")
    certificate = desk.enrol(name, "-cacertsout", "cas.pem", "-extracertsout", "extra.pem", "-sans", name)
    assert common_name(certificate) == name
    assert certificate.issuer == desk.pki.issuer.subject
    told = x509.load_pem_x509_certificates((desk.folder / "cas.pem").read_bytes())
    assert [each.subject for each in told] == [x509.load_pem_x509_certificate(desk.pki.root_file.read_bytes()).subject]
    extra = x509.load_pem_x509_certificates((desk.folder / "extra.pem").read_bytes())
    assert desk.pki.issuer in extra


def test_a_device_that_does_without_confirmation_is_done_at_once(desk: Desk, new_name: NewName) -> None:
    name = new_name("device")
    assert common_name(desk.enrol(name, "-implicit_confirm")) == name


@pytest.mark.parametrize("mac", ["hmac-sha1", "hmacWithSHA1", "hmacWithSHA256", "hmacWithSHA512"])
def test_the_macs_of_openssl_are_understood(desk: Desk, new_name: NewName, mac: str) -> None:
    name = new_name("device")
    assert common_name(desk.enrol(name, "-mac", mac, "-digest", "sha384")) == name


def test_a_wrong_secret_is_refused_in_a_signed_message(desk: Desk) -> None:
    desk.key()
    said = desk.cmp(
        "ir", "-ref", desk.reference, "-secret", "pass:wrong", *desk.trusting, "-newkey", "new.key",
        "-subject", "/CN=x", "-certout", "new.pem", good=False,
    )  # fmt: skip
    assert "badMessageCheck" in said or "bad_message_check" in said.lower(), said
    assert not (desk.folder / "new.pem").exists()


def test_a_certificate_is_updated_and_the_old_one_is_revoked(new_desk: MakeDesk, new_name: NewName) -> None:
    desk, name = new_desk(options={"revoke_renewed": True}), new_name("device")
    first = desk.enrol(name)
    desk.key("next.key")
    desk.cmp(
        "kur", "-cert", "new.pem", "-key", "new.key", *desk.trusting, "-newkey", "next.key", "-certout", "next.pem"
    )
    second = desk.certificate("next.pem")
    assert common_name(second) == name
    assert second.public_key() != first.public_key()
    said = desk.cmp(
        "kur", "-cert", "new.pem", "-key", "new.key", *desk.trusting, "-newkey", "next.key", "-certout", "third.pem",
        good=False,
    )  # fmt: skip
    assert "certRevoked" in said, said


def test_a_further_certificate_is_asked_for_with_the_first(desk: Desk, new_name: NewName) -> None:
    name = new_name("device")
    desk.enrol(name)
    desk.key("further.key", "rsa")
    desk.cmp(
        "cr", "-cert", "new.pem", "-key", "new.key", *desk.trusting, "-newkey", "further.key", "-certout", "further.pem"
    )
    assert common_name(desk.certificate("further.pem")) == name


@pytest.mark.parametrize("protection", ["secret", "certificate"])
def test_a_pkcs10_request_is_certified(desk: Desk, new_name: NewName, protection: str) -> None:
    name = new_name("device")
    who: tuple[str, ...] = desk.by_secret
    if protection == "certificate":
        desk.enrol(name)
        who = ("-cert", "new.pem", "-key", "new.key", *desk.trusting)
    desk.key("csr.key")
    desk.openssl("req", "-new", "-key", "csr.key", "-subj", f"/CN={name}", "-out", "csr.pem")
    desk.cmp("p10cr", *who, "-csr", "csr.pem", "-certout", "p10.pem")
    assert common_name(desk.certificate("p10.pem")) == name


@pytest.mark.parametrize("reason", [0, 1, 4, 5, 6])
def test_a_certificate_is_revoked_by_its_holder(desk: Desk, new_name: NewName, reason: int) -> None:
    certificate = desk.enrol(new_name("device"))
    desk.cmp("rr", "-cert", "new.pem", "-key", "new.key", *desk.trusting, "-oldcert", "new.pem", "-revreason", reason)
    assert desk.state(certificate) == ("held" if reason == 6 else "revoked")


def test_a_certificate_is_revoked_under_the_secret_it_was_asked_for_with(desk: Desk, new_name: NewName) -> None:
    desk.enrol(new_name("device"))
    desk.cmp("rr", *desk.by_secret, "-oldcert", "new.pem", "-revreason", 4)
    said = desk.cmp("rr", *desk.by_secret, "-oldcert", "new.pem", "-revreason", 4, good=False)
    assert "certRevoked" in said, said


def test_nobody_revokes_the_certificate_of_somebody_else(desk: Desk, new_name: NewName) -> None:
    desk.enrol(new_name("victim"), prefix="victim")
    desk.enrol(new_name("device"))
    mine = ("-cert", "new.pem", "-key", "new.key", *desk.trusting)
    said = desk.cmp("rr", *mine, "-oldcert", "victim.pem", "-revreason", 1, good=False)
    assert "notAuthorized" in said, said


def test_the_commands_that_are_shown_work_as_they_stand(desk: Desk, tmp_path: Path) -> None:
    titles = ("First certificate, by a shared secret", "Update of the key", "From a PKCS #10 request", "Revocation")
    type_shown(desk.pki, f"cmp/{desk.name}", titles, {"REFERENCE": desk.reference, "SECRET": desk.secret}, tmp_path)
    assert desk.state(desk.certificate("next.pem")) == "valid"
    assert desk.state(desk.certificate("device.pem")) == "revoked"


def test_general_messages_are_answered(desk: Desk) -> None:
    said = desk.cmp("genm", *desk.by_secret)
    assert "signKeyPairTypes" in said or "genp" in said.lower() or "genm" in said.lower(), said
    desk.cmp("genm", *desk.by_secret, "-infotype", "signKeyPairTypes")


def test_a_request_waits_for_approval_while_the_client_polls(new_desk: MakeDesk, new_name: NewName) -> None:
    desk, name = new_desk(approval="manual", options={"check_after": 1}), new_name("device")
    desk.key()
    command = [
        "openssl", "cmp", "-config", "", "-server", desk.url, "-cmd", "ir", *desk.by_secret, "-newkey", "new.key",
        "-subject", f"/CN={name}", "-certout", "new.pem", "-total_timeout", "50",
    ]  # fmt: skip
    with subprocess.Popen(command, cwd=desk.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as client:
        with admin(desk.pki.product) as http:
            wanted = approve_when_there(http, desk)
        said, _ = client.communicate(timeout=_PATIENCE)
    assert client.returncode == 0, said.decode()
    assert wanted["subject"] == f"CN={name}"
    assert common_name(desk.certificate()) == name


def test_a_request_that_is_rejected_is_told_so(new_desk: MakeDesk, new_name: NewName) -> None:
    desk, name = new_desk(approval="manual", options={"check_after": 1}), new_name("device")
    desk.key()
    command = [
        "openssl", "cmp", "-config", "", "-server", desk.url, "-cmd", "ir", *desk.by_secret, "-newkey", "new.key",
        "-subject", f"/CN={name}", "-certout", "new.pem", "-total_timeout", "50",
    ]  # fmt: skip
    with subprocess.Popen(command, cwd=desk.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as client:
        with admin(desk.pki.product) as http:
            decide_when_there(http, desk, "reject", {"reason": "not one of ours"})
        said, _ = client.communicate(timeout=_PATIENCE)
    assert client.returncode != 0
    assert "not one of ours" in said.decode()


# ---- a base station: vendor certificate, operator certificate, update (3GPP TS 33.310) -------------------------------


@dataclass(frozen=True)
class Vendor:
    """A device maker's root and sub-CA, and a device with a certificate of the latter, as files in a folder."""

    folder: Path
    root: str

    @classmethod
    def make(cls, folder: Path, name: str) -> Vendor:
        root, key = ForeignCa("Vendor Root"), ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = clock.now()
        usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject).issuer_name(root.subject).public_key(key.public_key()).serial_number(4711)
            .not_valid_before(now - timedelta(days=30)).not_valid_after(now + timedelta(days=3650))
            .add_extension(usage, True)
            .sign(root.key, hashes.SHA256())
        )  # fmt: skip
        (folder / "vendor.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        (folder / "vendor-ca.pem").write_text(root.pem)
        (folder / "vendor.key").write_bytes(key_pem(key))
        return cls(folder, root.pem)


_AS_VENDOR = ("-cert", "vendor.pem", "-key", "vendor.key", "-extracerts", "vendor-ca.pem")


def test_a_base_station_gets_operator_certificates_by_its_vendor_certificate(
    new_desk: MakeDesk, new_name: NewName, tmp_path: Path
) -> None:
    serial, name = new_name("gnb", ""), new_name("gnb")
    vendor = Vendor.make(tmp_path, serial)
    desk = new_desk(options={"trusted": [vendor.root], "names": "request"}, profile="cmp-digital-signature")
    desk.key("operator.key")
    desk.cmp(
        "ir", *_AS_VENDOR, *desk.trusting, "-newkey", "operator.key", "-subject", f"/O=Operator/CN={name}",
        "-sans", name, "-certout", "operator.pem", "-extracertsout", "chain.pem",
    )  # fmt: skip
    operator = desk.certificate("operator.pem")
    assert common_name(operator) == name
    assert operator.issuer == desk.pki.issuer.subject
    desk.openssl("verify", "-CAfile", desk.pki.root_file, "-untrusted", "chain.pem", "operator.pem")
    desk.key("updated.key")
    desk.cmp(
        "kur", "-cert", "operator.pem", "-key", "operator.key", *desk.trusting, "-newkey", "updated.key",
        "-certout", "updated.pem",
    )  # fmt: skip
    assert desk.certificate("updated.pem").subject == operator.subject


def test_a_vendor_certificate_names_its_holder_unless_the_endpoint_leaves_that_to_the_request(
    new_desk: MakeDesk, new_name: NewName, tmp_path: Path
) -> None:
    serial = new_name("gnb", "")
    vendor = Vendor.make(tmp_path, serial)
    desk = new_desk(options={"trusted": [vendor.root]})
    desk.key("operator.key")
    said = desk.cmp(
        "ir", *_AS_VENDOR, *desk.trusting, "-newkey", "operator.key", "-subject", "/CN=somebody-else",
        "-certout", "operator.pem",
    )  # fmt: skip
    assert common_name(desk.certificate("operator.pem")) == serial
    assert "modification" in said.lower(), said


def test_a_device_of_an_unknown_vendor_is_refused(new_desk: MakeDesk, new_name: NewName, tmp_path: Path) -> None:
    Vendor.make(tmp_path, new_name("gnb", ""))
    desk = new_desk()
    desk.key("operator.key")
    said = desk.cmp(
        "ir", *_AS_VENDOR, *desk.trusting, "-newkey", "operator.key", "-subject", "/CN=gnb", "-certout", "operator.pem",
        good=False,
    )  # fmt: skip
    assert "signerNotTrusted" in said, said


# ---- keys and proofs -------------------------------------------------------------------------------------------------


def test_possession_of_a_key_for_encryption_is_shown_by_decrypting_the_certificate(
    new_desk: MakeDesk, new_name: NewName
) -> None:
    desk, name = new_desk(profile="cmp-key-encipherment"), new_name("device")
    desk.key("new.key", "rsa")
    desk.cmp(
        "ir", *desk.by_secret, "-newkey", "new.key", "-subject", f"/CN={name}", "-popo", 2, "-certout", "new.pem"
    )
    assert common_name(desk.certificate()) == name


@pytest.mark.parametrize(("popo", "what"), [(-1, "no proof"), (0, "raVerified")])
def test_a_request_without_proof_of_possession_is_refused(desk: Desk, popo: int, what: str) -> None:
    desk.key()
    said = desk.cmp(
        "ir", *desk.by_secret, "-newkey", "new.key", "-subject", "/CN=x", "-popo", popo, "-certout", "new.pem",
        good=False,
    )  # fmt: skip
    assert "badPOP" in said, said
    assert what in said


def test_a_registration_authority_says_that_it_has_seen_the_proof(new_desk: MakeDesk, new_name: NewName) -> None:
    desk, name = new_desk(), new_name("device")
    authority = desk.enrol(new_name("ra"), prefix="ra")
    desk.change(options={"registration_authorities": [authority.fingerprint(hashes.SHA256()).hex()]})
    desk.key()
    desk.cmp(
        "ir", "-cert", "ra.pem", "-key", "ra.key", *desk.trusting, "-newkey", "new.key", "-subject", f"/CN={name}",
        "-popo", 0, "-certout", "new.pem",
    )  # fmt: skip
    assert common_name(desk.certificate()) == name


@pytest.mark.parametrize(
    ("arguments", "failure"),
    [(("-digest", "sha1"), "badAlg"), (("-digest", "sha224"), "badAlg")],
    ids=["sha1", "sha224"],
)
def test_weak_digests_are_refused(desk: Desk, arguments: tuple[str, ...], failure: str) -> None:
    desk.key()
    said = desk.cmp(
        "ir", *desk.by_secret, "-newkey", "new.key", "-subject", "/CN=x", *arguments, *desk.trusting,
        "-certout", "new.pem", good=False,
    )  # fmt: skip
    assert failure in said, said


def test_a_weak_key_is_refused(desk: Desk) -> None:
    desk.openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-192", "-out", "weak.key")
    said = desk.cmp(
        "ir", *desk.by_secret, "-newkey", "weak.key", "-subject", "/CN=x", "-certout", "new.pem", good=False
    )
    assert "badAlg" in said, said


def test_an_unprotected_request_is_refused(desk: Desk) -> None:
    desk.key()
    said = desk.cmp(
        "ir", "-unprotected_requests", *desk.trusting, "-newkey", "new.key", "-subject", "/CN=x", "-certout", "new.pem",
        good=False,
    )  # fmt: skip
    assert "badMessageCheck" in said, said


def test_a_certificate_that_nobody_confirms_is_revoked(new_desk: MakeDesk, new_name: NewName) -> None:
    desk = new_desk(options={"confirm_within": 10})
    certificate = desk.enrol(new_name("device"), "-disable_confirm")
    assert desk.state(certificate) == "valid"
    eventually(lambda: desk.state(certificate) == "revoked", what="the certificate is revoked")


@pytest.mark.parametrize(
    ("profile", "usage"),
    [
        ("cmp-digital-signature", {"digital_signature"}),
        ("cmp-key-encipherment", {"key_encipherment"}),
        ("cmp-digital-signature-key-encipherment", {"digital_signature", "key_encipherment"}),
        ("cmp-non-repudiation", {"digital_signature", "content_commitment"}),
    ],
)
def test_the_profiles_of_cmp_say_what_a_key_is_for(
    new_desk: MakeDesk, new_name: NewName, profile: str, usage: set[str]
) -> None:
    desk = new_desk(profile=profile)
    desk.key("new.key", "rsa")
    (desk.folder / "req.cnf").write_text("[req]\n[v3]\nextendedKeyUsage = clientAuth\n")
    desk.openssl(
        "cmp", "-config", "req.cnf", "-section", "", "-reqexts", "v3", "-server", desk.url, "-cmd", "ir",
        *desk.by_secret, "-newkey", "new.key", "-subject", f"/CN={new_name('device')}", "-certout", "new.pem",
    )  # fmt: skip
    extensions = desk.certificate().extensions
    found = extensions.get_extension_for_class(x509.KeyUsage).value
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    assert {name for name in names if getattr(found, name)} == usage
    purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [x509.ExtendedKeyUsageOID.CLIENT_AUTH]


# ---- other clients, other ways ---------------------------------------------------------------------------------------


def test_bouncy_castle_enrols_confirms_and_updates(desk: Desk, new_name: NewName) -> None:
    classpath = ":".join(f"/usr/share/java/bc{part}.jar" for part in ("pkix", "prov", "util"))
    source = Path(__file__).with_name("java") / "Enrolment.java"
    run("javac", "-d", desk.folder, "-cp", classpath, source)
    name = new_name("java")
    told = run(
        "java", "-XX:TieredStopAtLevel=1", "-cp", f"{classpath}:{desk.folder}", "Enrolment", desk.url, desk.reference,
        desk.secret, name,
    )  # fmt: skip
    assert told.splitlines() == [f"initial CN={name}", f"updated CN={name}"]


def test_cmp_is_spoken_over_tls_too(desk: Desk, new_name: NewName) -> None:
    name = new_name("device")
    desk.key()
    url = desk.pki.product.url("enroll", f"/cmp/{desk.name}/{desk.pki.issuing}/{PROFILE}")
    desk.cmp(
        "ir", *desk.by_secret, "-newkey", "new.key", "-subject", f"/CN={name}", "-certout", "new.pem",
        "-tls_used", "-tls_trusted", desk.pki.anchor_file, "-tls_host", "localhost", url=url,
    )  # fmt: skip
    assert common_name(desk.certificate()) == name


@pytest.mark.parametrize("mode", ["http", "tcp"])
def test_cmp_works_behind_a_balancer_of_any_layer(desk: Desk, new_name: NewName, mode: str) -> None:
    name, configuration = new_name("device"), desk.folder / "haproxy.cfg"
    port = desk.pki.product.runtime.port("public")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        configuration.write_text(
            f"defaults\n mode {mode}\n timeout connect 30s\n timeout client 60s\n timeout server 60s\n"
            f"listen cmp\n bind fd@{listening.fileno()}\n server one 127.0.0.1:{port}\n"
        )
        command = [program("haproxy"), "-db", "-f", str(configuration)]
        with subprocess.Popen(command, pass_fds=[listening.fileno()]) as balancer:
            try:
                url = f"http://localhost:{listening.getsockname()[1]}/.well-known/cmp/p/{desk.name}"
                desk.key()
                desk.cmp(
                    "ir", *desk.by_secret, "-newkey", "new.key", "-subject", f"/CN={name}", "-certout", "new.pem",
                    url=url,
                )  # fmt: skip
            finally:
                balancer.terminate()
    assert common_name(desk.certificate()) == name


@pytest.mark.parametrize("kind", ["pkcs12", "jks", "pkcs7"])
def test_the_vendors_that_are_trusted_come_from_a_store_of_any_kind(
    new_desk: MakeDesk, new_name: NewName, tmp_path: Path, kind: str
) -> None:
    serial = new_name("gnb", "")
    Vendor.make(tmp_path, serial)
    store = tmp_path / f"trust.{kind}"
    if kind == "pkcs7":
        run("openssl", "crl2pkcs7", "-nocrl", "-certfile", tmp_path / "vendor-ca.pem", "-out", store)
        pem = run("openssl", "pkcs7", "-print_certs", "-in", store)
    else:
        options = ("-keystore", store, "-storepass", "changeit", "-storetype", kind)
        run("keytool", "-importcert", "-noprompt", "-alias", "vendor", "-file", tmp_path / "vendor-ca.pem", *options)
        pem = run("keytool", "-list", "-rfc", *options)
    desk = new_desk(options={"trusted": [pem]})
    desk.key("operator.key")
    desk.cmp(
        "ir", *_AS_VENDOR, *desk.trusting, "-newkey", "operator.key", "-subject", f"/CN={serial}",
        "-certout", "operator.pem",
    )  # fmt: skip
    assert common_name(desk.certificate("operator.pem")) == serial


def run(*command: object) -> str:
    """Output of a program that succeeds."""
    done = subprocess.run(list(map(str, command)), capture_output=True, check=False, timeout=_PATIENCE)
    assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")
    return done.stdout.decode()


def approve_when_there(http: Any, desk: Desk) -> dict[str, Any]:
    return decide_when_there(http, desk, "approve", {})


def decide_when_there(http: Any, desk: Desk, decision: str, body: dict[str, str]) -> dict[str, Any]:
    """What was decided about: the one request that waits at the endpoint."""
    found: list[dict[str, Any]] = []

    def there() -> bool:
        listed = ok(http.get("/enrollment/requests")).json()
        found[:] = [each for each in listed["items"] if each["endpoint"] == f"cmp/{desk.name}"]
        return bool(found)

    eventually(there, what="the request is listed")
    ok(http.post(f"/enrollment/requests/{found[0]['id']}/{decision}", json=body))
    return found[0]


def test_a_transaction_survives_the_restart_of_the_server(new_product: NewProduct) -> None:
    product = new_product()
    product.run("init")
    product.start()
    pki = Pki.create(product, "again", profiles=[PROFILE])
    with admin(product) as http:
        ok(http.post("/enrollment/endpoints", json={
            "protocol": "cmp", "ca": pki.issuing, "profile": PROFILE, "name": "default",
        }))  # fmt: skip
        wish = {"kind": "mac", "name": "device", "secret": "a shared secret of enough length"}
        ok(http.post("/enrollment/endpoints/cmp/default/credentials", json=wish))

    async def send(message: bytes) -> bytes:
        url, headers = product.url("public", "/.well-known/cmp"), {"content-type": "application/pkixcmp"}
        async with httpx.AsyncClient(timeout=_PATIENCE, trust_env=False, verify=PLAIN) as http:
            return (await http.post(url, content=message, headers=headers)).content

    client = CmpClient(send, secret=("device", b"a shared secret of enough length"))
    answer = asyncio.run(client.request())
    product.stop()
    product.start()
    assert asyncio.run(client.confirm(answer)).body is Body.PKICONF
