"""A PKI in a running product, made through the management socket and used over HTTPS, as many clients at a time as a
test wants.

Every test may use these fixtures; the server behind them is the ``product`` of the test process, started once:

``shared_pki``
    one organization with a root and an issuing CA. A test enrols in it, revokes what it enrolled, and changes neither
    its CAs nor their profiles, credentials and options.
``new_pki``
    a function that makes another one, in tenths of a second: ``new_pki(key_algorithm="RSA-2048", profiles=[...])``.
    The test may do with it what it likes.
``new_name``
    a function that makes a name nobody used before: ``new_name("www")`` is ``www-7.example``, as a DNS name, a
    common name or with any other ending: ``new_name("device", "")`` is ``device-8``.

What clients of all kinds need of it: ``pki.product.url("enroll", "/path")`` (or "public", "gateway" ...) and
``pki.anchor_file`` to trust that server by; ``pki.root_file``, ``pki.issuing_file`` and ``pki.chain_file`` in PEM;
``pki.clients["alice"]``, a PEM file with a certificate and its key for the gateway; ``pki.http()``, the gateway called
by httpx; ``admin(product)``, the management API as the operator of the host; ``product.run("ca", "list")``, a command;
``pki.crl()`` and ``pki.ocsp(issued)`` for what relying parties see; ``pki.database()`` for a look behind the scenes.
A test that changes settings of the platform, or stops the server, takes ``new_product`` instead.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509 import ocsp
from cryptography.x509.oid import NameOID
from tests.support.product import Product
from tests.support.product import eventually as until

from intaglio.db.embedded import EmbeddedPostgres

#: Seconds after which an answer counts as not coming.
PATIENCE = 60.0
PROFILE = "privatessl-tls-server"
PROFILES = (PROFILE, "privatessl-tls-client", "multiuse-p12-server")
#: For plain HTTP; making one for every request would cost more than the request.
PLAIN = ssl.create_default_context()


@dataclass(frozen=True)
class Issued:
    """What a client holds after an enrolment."""

    serial: str
    der: bytes = field(repr=False)


class Pki:
    """An organization with a root and an issuing CA. ``clients`` are PEM files with certificate and key, by name."""

    def __init__(self, product: Product, organization: str) -> None:
        self.product = product
        self.organization = organization
        self.folder = product.work / organization
        self.issuing = f"{organization}~issuing"
        self.clients: dict[str, Path] = {}
        self.passwords: dict[str, str] = {}
        # Asked for once: a server that is started again keeps its ports, and one that is gone cannot be asked.
        self._gateway = product.url("gateway", "/cagw/v1/certificate-authorities")
        self._public = product.url("public")
        self._anchor = ""
        self._chain: list[x509.Certificate] = []
        self._contexts: dict[str | None, ssl.SSLContext] = {}

    @classmethod
    def create(
        cls,
        product: Product,
        organization: str,
        *,
        key_algorithm: str = "P-256",
        profiles: Sequence[str] = PROFILES,
        **options: Any,
    ) -> Pki:
        """``options`` are those of the issuing CA. Clients: alice (administrator), bob (auditor)."""
        made = cls(product, organization)
        made.folder.mkdir()
        common = {"key_algorithm": key_algorithm, "profiles": [*profiles]}
        with admin(product) as http:
            made._anchor = ok(http.get("/platform/ca-certificate")).text
            ok(http.post("/organizations", json={"name": organization}))
            for body in (
                {**ca_body("root", **common), "kind": "root", "administrators": ["otto"]},
                {
                    **ca_body("issuing", **common),
                    "kind": "issuing",
                    "issuer": "root",
                    "options": options,
                    "auditors": ["bob"],
                },
            ):
                answer = ok(http.post(f"/organizations/{organization}/cas", json=body)).json()
                for credential in answer["credentials"]:
                    made.keep(credential)
            made._chain = x509.load_pem_x509_certificates(ok(http.get(f"/cas/{made.issuing}/chain")).content)
        until(made._has_a_crl, what="the first CRL is published")
        return made

    def _has_a_crl(self) -> bool:
        return httpx.get(self.crl_url, timeout=PATIENCE, trust_env=False).status_code == 200

    @property
    def issuer(self) -> x509.Certificate:
        """Certificate of the issuing CA."""
        return self._chain[0]

    def keep(self, credential: dict[str, Any]) -> None:
        """Unpack a credential that the management API handed out."""
        name, password = credential["name"], credential["password"]
        holder = pkcs12.load_pkcs12(base64.b64decode(credential["pkcs12"]), password.encode())
        assert holder.cert is not None
        assert holder.key is not None
        self.passwords[name] = password
        self.present(name, holder.cert.certificate, holder.key)

    def present(self, name: str, certificate: x509.Certificate, key: Any) -> None:
        """Let ``name`` present this certificate from now on."""
        pem = certificate.public_bytes(Encoding.PEM)
        pem += key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self._contexts.pop(name, None)
        self.clients[name] = self.folder / f"{name}.pem"
        self.clients[name].write_bytes(pem)

    def tls(self, client: str | None = "alice") -> ssl.SSLContext:
        """The TLS context of a client."""
        if client not in self._contexts:
            context = self._contexts[client] = ssl.create_default_context(cadata=self._anchor)
            if client is not None:
                context.load_cert_chain(self.clients[client])
        return self._contexts[client]

    @property
    def anchor_file(self) -> Path:
        """What the listeners' certificates chain to, in PEM."""
        return self._file("platform-ca.pem", self._anchor.encode())

    @property
    def root_file(self) -> Path:
        """Certificate of the root CA, in PEM."""
        return self._file("root.pem", self._chain[-1].public_bytes(Encoding.PEM))

    @property
    def issuing_file(self) -> Path:
        """Certificate of the issuing CA, in PEM."""
        return self._file("issuing.pem", self.issuer.public_bytes(Encoding.PEM))

    @property
    def chain_file(self) -> Path:
        """Both, the issuing CA's first, in PEM."""
        return self._file("chain.pem", b"".join(each.public_bytes(Encoding.PEM) for each in self._chain))

    def _file(self, name: str, content: bytes) -> Path:
        file = self.folder / name
        file.write_bytes(content)
        return file

    def http(self, presenting: str | None = "alice", *, timeout: float = PATIENCE, connections: int = 20) -> Gateway:
        """A client of the gateway."""
        transport = httpx.AsyncHTTPTransport(
            verify=self.tls(presenting), limits=httpx.Limits(max_connections=connections), trust_env=False
        )
        client = httpx.AsyncClient(transport=transport, base_url=self._gateway, timeout=timeout, trust_env=False)
        return Gateway(self, client)

    def database(self) -> psycopg.Connection[Any]:
        """A look behind the scenes."""
        url = self.product.settings.get("DATABASE_URL") or EmbeddedPostgres(self.product.data).url
        return psycopg.connect(url, autocommit=True)

    @property
    def crl_url(self) -> str:
        return f"{self._public}/crl/{self.organization}/issuing/crl.crl"

    @property
    def ocsp_url(self) -> str:
        return f"{self._public}/ocsp/{self.organization}/issuing"

    def crl(self) -> x509.CertificateRevocationList:
        """The CRL as relying parties get it."""
        answer = httpx.get(self.crl_url, timeout=PATIENCE, trust_env=False, verify=PLAIN)
        return x509.load_der_x509_crl(ok(answer).content)

    def crl_number(self) -> int:
        """The number of the published CRL."""
        return self.crl().extensions.get_extension_for_class(x509.CRLNumber).value.crl_number

    def ocsp_request(self, issued: Issued) -> bytes:
        """A question about one certificate."""
        leaf = x509.load_der_x509_certificate(issued.der)
        builder = ocsp.OCSPRequestBuilder().add_certificate(leaf, self.issuer, hashes.SHA1())
        return builder.build().public_bytes(Encoding.DER)

    def ocsp(self, issued: Issued, *, timeout: float = PATIENCE) -> ocsp.OCSPResponse:
        """The responder's answer about one certificate."""
        answer = httpx.post(
            self.ocsp_url,
            content=self.ocsp_request(issued),
            headers={"content-type": "application/ocsp-request"},
            timeout=timeout,
            trust_env=False,
            verify=PLAIN,
        )
        return ocsp.load_der_ocsp_response(ok(answer).content)


@dataclass
class Gateway:
    """One client's connections to the gateway."""

    pki: Pki
    client: httpx.AsyncClient

    async def __aenter__(self) -> Gateway:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()

    async def enroll(
        self, csr: str | bytes, *, key: str | None = None, ca: str = "issuing", **changes: Any
    ) -> httpx.Response:
        """Ask for a certificate; ``key`` is the Idempotency-Key, ``csr`` is text or DER."""
        body = {"profileId": PROFILE, "csr": csr if isinstance(csr, str) else base64.b64encode(csr).decode(), **changes}
        headers = {} if key is None else {"idempotency-key": key}
        return await self.client.post(f"/{self.pki.organization}~{ca}/enrollments", json=body, headers=headers)

    async def act(self, issued: Issued, action: str, **values: Any) -> httpx.Response:
        """Revoke, hold and so on."""
        path = f"/{self.pki.issuing}/certificates/{issued.serial}/actions"
        return await self.client.post(path, json={"action": {"type": action, **values}})


def ca_body(name: str, **changes: Any) -> dict[str, Any]:
    """A CA as the management API is asked for it."""
    return {
        "name": name,
        "key_algorithm": "P-256",
        "subject": f"CN={name},O=Test",
        "profiles": [*PROFILES],
        "administrators": ["alice"],
        **changes,
    }


def admin(product: Product) -> httpx.Client:
    """The management API as the operator of the host."""
    transport = httpx.HTTPTransport(uds=product.runtime.admin_socket)
    return httpx.Client(transport=transport, base_url="http://localhost/api/v1", timeout=PATIENCE, trust_env=False)


def ok(answer: httpx.Response) -> httpx.Response:
    """An answer that has to be a good one."""
    assert answer.is_success, f"{answer.status_code}: {answer.text[:2000]}"
    return answer


def issued(answer: httpx.Response) -> Issued:
    """The certificate in the answer to an enrolment."""
    enrollment = ok(answer).json()["enrollment"]
    return Issued(enrollment["serialNumber"], base64.b64decode(enrollment["body"]))


def certificate_request(name: str = "www.example", key: Any = None) -> bytes:
    """A request for a TLS server, in DER."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    signed = builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(Encoding.DER)


def refusal(answer: httpx.Response, *statuses: int) -> dict[str, Any]:
    """The error in an answer that has to be a refusal in the gateway's form, with one of these statuses if given."""
    assert answer.status_code >= 400, answer.text[:500]
    assert not statuses or answer.status_code in statuses, f"{answer.status_code}: {answer.text[:500]}"
    assert answer.headers["content-type"].split(";")[0] == "application/json", answer.headers
    document = json.loads(answer.content)
    assert document["type"] == "ErrorResponse", document
    error: dict[str, Any] = document["error"]
    assert error["code"].startswith("cagw-"), error
    assert error["message"], error
    assert "Traceback" not in answer.text
    return error


async def eventually(condition: Any, *, what: str, timeout: float = PATIENCE) -> Any:
    """The first truthy value of ``condition()``, a function or coroutine function; fails when there is none in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        assert loop.time() < deadline, f"did not happen: {what}"
        await asyncio.sleep(0.05)


NewPki = Callable[..., Pki]
NewName = Callable[..., str]
_organizations = itertools.count(1)
_names = itertools.count(1)


@pytest.fixture(scope="session")
def shared_pki(product: Product) -> Pki:
    """A PKI in the shared product. Tests use it and do not change its CAs."""
    return Pki.create(product, "shared")


@pytest.fixture
def new_pki(product: Product) -> NewPki:
    """A function that makes an organization with CAs of its own in the shared product; the arguments are those of
    :meth:`Pki.create`."""
    return lambda **changes: Pki.create(product, f"own-{next(_organizations)}", **changes)


@pytest.fixture
def new_name() -> NewName:
    """A function that makes a name of which no other test of this process knows."""
    return lambda stem="host", ending=".example": f"{stem}-{next(_names)}{ending}"
