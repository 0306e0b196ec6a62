"""A CA run by OpenSSL: somebody else's, with its certificates, revocations and CRLs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.support.programs import run

_CONFIGURATION = """
[ca]
default_ca = own
[own]
dir = {folder}
database = $dir/index.txt
new_certs_dir = $dir
certificate = $dir/ca.pem
private_key = $dir/ca.key
rand_serial = yes
default_md = sha256
default_days = 90
default_crl_days = 1
crlnumber = $dir/crlnumber
policy = any
copy_extensions = copy
unique_subject = no
[any]
commonName = supplied
[req]
distinguished_name = names
[names]
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = CA:FALSE
authorityKeyIdentifier = keyid
[signer]
basicConstraints = CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = OCSPSigning
noCheck = ignored
[plain]
authorityKeyIdentifier = keyid
[partition]
authorityKeyIdentifier = keyid
issuingDistributionPoint = critical,@point
[point]
fullname = URI:http://crl.example/partition.crl
"""


@dataclass(frozen=True)
class Issued:
    """A certificate of the CA; ``serial`` is hexadecimal."""

    certificate: Path
    serial: str


class OpensslCa:
    """A CA in a folder of its own."""

    def __init__(self, folder: Path, name: str = "Legacy CA") -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.configuration = folder / "ca.cnf"
        self.configuration.write_text(_CONFIGURATION.format(folder=folder))
        (folder / "index.txt").touch()
        (folder / "crlnumber").write_text("1000\n")
        run(
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", folder / "ca.key", "-out", self.certificate, "-subj", f"/CN={name}", "-days", "3650",
            "-config", self.configuration, "-extensions", "authority",
        )  # fmt: skip

    @property
    def certificate(self) -> Path:
        return self.folder / "ca.pem"

    def issue(self, name: str) -> Issued:
        """A certificate with a key that nobody needs."""
        request = self.folder / f"{name}.csr"
        run(
            "openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", self.folder / f"{name}.key", "-out", request, "-subj", f"/CN={name}",
        )  # fmt: skip
        return self.sign(request, "leaf")

    def sign(self, request: Path, section: str = "signer") -> Issued:
        """The certificate for a request, by default of an OCSP signer."""
        certificate = request.with_suffix(".crt")
        run(
            "openssl", "ca", "-batch", "-config", self.configuration, "-extensions", section,
            "-in", request, "-out", certificate, "-notext",
        )  # fmt: skip
        said = run("openssl", "x509", "-in", certificate, "-noout", "-serial")
        return Issued(certificate, said.strip().removeprefix("serial="))

    def revoke(self, issued: Issued, reason: str = "keyCompromise") -> None:
        run(
            "openssl", "ca", "-config", self.configuration, "-revoke", issued.certificate, "-crl_reason", reason
        )  # fmt: skip

    def crl(self, *, days: int | None = None, seconds: int | None = None, section: str = "plain") -> bytes:
        """A new CRL in DER, under the next number."""
        life = ("-crldays", str(days)) if days else ("-crlsec", str(seconds)) if seconds else ()
        pem, der = self.folder / "made.pem", self.folder / "made.crl"
        run(
            "openssl", "ca", "-config", self.configuration, "-gencrl", "-crlexts", section, *life, "-out", pem
        )  # fmt: skip
        run("openssl", "crl", "-in", pem, "-outform", "der", "-out", der)
        return der.read_bytes()
