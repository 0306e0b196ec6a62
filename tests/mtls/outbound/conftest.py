"""A partner with a TLS interface: his server certificate, the clients he knows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.programs import run

from intaglio.mtls.toolkit import keys
from intaglio.mtls.toolkit.pkcs12_writer import Protection, Variant, encode_pkcs12
from intaglio.x509.certificates import read_certificate

_EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
PASSWORD = "correct horse battery staple"


@dataclass(frozen=True)
class Partner:
    """A folder with server.pem/.key (CN localhost) and client CA; makes client certificates."""

    folder: Path

    @property
    def server_ca(self) -> str:
        return (self.folder / "root.pem").read_text()

    def client(self, name: str, *, days: int = 365, signed: bool = True) -> Path:
        """NAME.pem and NAME.key, signed by the partner's client CA (``root``), or by themselves."""
        ca = ("-CA", "root.pem", "-CAkey", "root.key") if signed else ()
        run(
            "openssl", "req", "-x509", *_EC, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}",
            *ca, "-addext", "extendedKeyUsage=clientAuth", "-addext", "basicConstraints=critical,CA:FALSE",
            "-days", str(days), cwd=self.folder,
        )  # fmt: skip
        return self.folder / f"{name}.pem"

    def pkcs12(self, name: str, **options: int | bool) -> bytes:
        """A PKCS #12 of a fresh client certificate."""
        certificate = read_certificate(self.client(name, **options).read_bytes())  # type: ignore[arg-type]
        key = keys.read_key((self.folder / f"{name}.key").read_bytes())
        protection = Protection(Variant.AES_256, 1000, 1000)
        return encode_pkcs12(key, certificate.der, [], PASSWORD, friendly_name=name, protection=protection)


@pytest.fixture(scope="session")
def partner(tmp_path_factory: pytest.TempPathFactory) -> Partner:
    folder = tmp_path_factory.mktemp("partner")
    root = ("-keyout", "root.key", "-out", "root.pem", "-subj", "/CN=Partner root", "-days", "400")
    run("openssl", "req", "-x509", *_EC, *root, cwd=folder)
    run(
        "openssl", "req", "-x509", *_EC, "-keyout", "server.key", "-out", "server.pem", "-subj", "/CN=localhost",
        "-CA", "root.pem", "-CAkey", "root.key", "-addext", "subjectAltName=DNS:localhost",
        "-addext", "basicConstraints=critical,CA:FALSE", "-days", "30", cwd=folder,
    )  # fmt: skip
    return Partner(folder)
