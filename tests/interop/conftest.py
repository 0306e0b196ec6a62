"""A PKI in the running product, used only through what its users have: the command line, curl, files."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.support.product import Product, eventually
from tests.support.programs import Outcome, attempt, run

PROFILES = ("privatessl-tls-server", "privatessl-tls-client", "privatessl-tls-client-server", "multiuse-p12-server")


@dataclass(frozen=True)
class Reply:
    """An HTTP answer."""

    status: int
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Leaf:
    """An issued certificate; ``key`` and ``certificate`` are PEM files, ``serial`` is hexadecimal."""

    key: Path
    certificate: Path
    serial: str


class Pki:
    """An organization with a root and an issuing CA, and the folder of a gateway client.

    The folder has ``platform-ca.pem`` (what the listeners' certificates chain to), ``root.pem``, ``issuing.pem``,
    ``chain.pem`` (both) and, for alice (administrator, modern PKCS #12), bob (auditor) and otto (administrator, legacy
    PKCS #12), NAME.p12 and NAME.password; alice.pem is certificate and key.
    """

    def __init__(self, product: Product, organization: str, folder: Path) -> None:
        self.product = product
        self.organization = organization
        self.folder = folder
        self.issuing = f"{organization}~issuing"
        self.root = f"{organization}~root"

    @classmethod
    def create(cls, product: Product, organization: str, folder: Path) -> Pki:
        made = cls(product, organization, folder)
        profiles = [option for profile in PROFILES for option in ("--profile", profile)]
        written = ("--credentials-dir", folder, "--save-passwords")
        product.run("org", "create", organization)
        product.run(
            "ca", "create", "root", made.root, "--subject", f"CN=Root,O={organization}", *profiles,
            "--administrator", "otto", "--encoding", "legacy", *written,
        )  # fmt: skip
        product.run(
            "ca", "create", "issuing", made.issuing, "--issuer", "root", "--subject", f"CN=Issuing,O={organization}",
            *profiles, "--administrator", "alice", "--administrator", "otto", "--auditor", "bob",
            "--option", "crl_on_revoke=true", *written,
        )  # fmt: skip
        product.run("tls", "ca-certificate", "--out", folder / "platform-ca.pem")
        product.run("ca", "certificate", made.root, "--out", folder / "root.pem")
        product.run("ca", "certificate", made.issuing, "--out", folder / "issuing.pem")
        product.run("ca", "chain", made.issuing, "--out", folder / "chain.pem")
        for client in ("alice", "bob"):
            made.unpack(client)
        return made

    def unpack(self, client: str, *options: str) -> Path:
        """NAME.pem, certificate and key, out of NAME.p12."""
        password = f"file:{self.folder / f'{client}.password'}"
        pem = self.folder / f"{client}.pem"
        source = self.folder / f"{client}.p12"
        run("openssl", "pkcs12", *options, "-in", source, "-passin", password, "-nodes", "-out", pem)
        return pem

    def attempt(self, path: str, *options: str | Path, client: Path | None = None, body: Any = None) -> Outcome:
        """Run curl against the gateway, with the client's PEM file if given; standard output is the body, then a line
        with the status."""
        if client is not None:
            options = (*options, "--cert", client, "--key", client)
        if body is not None:
            options = (*options, "--json", json.dumps(body))
        return attempt(
            "curl", "--silent", "--show-error", "--cacert", self.folder / "platform-ca.pem",
            "--write-out", "\n%{http_code}", *options, self.product.url("gateway", f"/cagw/v1{path}"),
        )  # fmt: skip

    def call(self, path: str, *options: str | Path, client: str | None = "alice", body: Any = None) -> Reply:
        """The gateway's answer to curl."""
        certificate = None if client is None else self.folder / f"{client}.pem"
        outcome = self.attempt(path, *options, client=certificate, body=body)
        assert outcome.status == 0, outcome.output
        content, _, status = outcome.stdout.rpartition(b"\n")
        return Reply(int(status), content)

    def enroll(
        self,
        folder: Path,
        name: str,
        profile: str = "privatessl-tls-server",
        key: tuple[str, ...] = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
    ) -> Leaf:
        """A certificate for ``name``: key and request by openssl, enrolment by curl."""
        private, request, certificate = (folder / f"{name}.{kind}" for kind in ("key", "csr", "pem"))
        run(
            "openssl", "req", "-new", "-newkey", *key, "-nodes", "-keyout", private, "-out", request,
            "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}",
        )  # fmt: skip
        wish = {"profileId": profile, "csr": request.read_text(), "requiredFormat": {"format": "PEM"}}
        reply = self.call(f"/certificate-authorities/{self.issuing}/enrollments", body=wish)
        assert reply.status == 200, reply.body.decode()
        enrolled = reply.json["enrollment"]
        certificate.write_text(enrolled["body"])
        return Leaf(private, certificate, enrolled["serialNumber"])

    def act(self, leaf: Leaf, action: str, **values: Any) -> None:
        """Revoke, hold and so on, by curl."""
        path = f"/certificate-authorities/{self.issuing}/certificates/{leaf.serial}/actions"
        reply = self.call(path, body={"action": {"type": action, **values}})
        assert reply.status == 200, reply.body.decode()

    def fetch(self, url: str, file: Path) -> Path:
        """Download what a certificate points to."""
        run("curl", "--silent", "--show-error", "--fail", "--output", file, url)
        return file

    def crl(self, folder: Path, ca: str = "issuing") -> Path:
        """The CA's CRL as relying parties get it, in PEM."""
        der = self.fetch(self.public(f"/crl/{self.organization}/{ca}/crl.crl"), folder / f"{ca}.crl")
        pem = folder / f"{ca}-crl.pem"
        run("openssl", "crl", "-inform", "der", "-in", der, "-out", pem)
        return pem

    def revoke(self, leaf: Leaf, folder: Path) -> Path:
        """Revoke a certificate; the CRL that says so, in PEM."""
        self.act(leaf, "RevokeAction", reason="keyCompromise", issueCrl=True)
        eventually(lambda: leaf.serial in self._listed(folder), what="the CRL lists the revoked certificate")
        return folder / "issuing-crl.pem"

    def _listed(self, folder: Path) -> str:
        return run("openssl", "crl", "-in", self.crl(folder), "-noout", "-text")

    def public(self, path: str) -> str:
        """An address of the public listener."""
        return self.product.url("public", path)

    @property
    def ocsp(self) -> str:
        return self.public(f"/ocsp/{self.organization}/issuing")


@pytest.fixture(scope="session")
def pki(product: Product) -> Iterator[Pki]:
    """One PKI for all tests of this process; each enrols what it revokes."""
    with tempfile.TemporaryDirectory(prefix="intaglio-pki-") as name:
        yield Pki.create(product, "interop", Path(name))
