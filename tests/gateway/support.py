"""A client of the gateway application: its requests carry a TLS client certificate, its answers are held against the
OpenAPI document."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import jsonschema_rs
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from intaglio.gateway import openapi
from intaglio.gateway.api import GatewayApp

CA_PATH = "/cagw/v1/certificate-authorities"
_VALIDATORS: dict[str, Any] = {}


@dataclass
class Answer:
    """One answer of the application."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        assert self.headers["content-type"] == "application/json"
        parsed = json.loads(self.body)
        check_against_contract(parsed)
        return parsed

    @property
    def code(self) -> str:
        """The catalogue code of a refusal."""
        return str(self.json["error"]["code"])

    @property
    def enrolled(self) -> dict[str, Any]:
        """The enrolment of an answer that must be a success."""
        assert self.status == 200, self.body
        return dict(self.json["enrollment"])

    @property
    def certificate(self) -> x509.Certificate:
        """The certificate of an X509 or PEM enrolment."""
        body = self.enrolled["body"]
        if body.startswith("-----"):
            return x509.load_pem_x509_certificate(body.encode())
        return x509.load_der_x509_certificate(base64.b64decode(body))


def check_against_contract(body: dict[str, Any]) -> None:
    """Fail unless an answer is exactly what the OpenAPI document promises for its type."""
    kind = body["type"]
    if kind not in _VALIDATORS:
        document = openapi.document()
        assert kind in document["components"]["schemas"], f"{kind} is not documented"
        schema = {"$ref": f"#/components/schemas/{kind}", "components": document["components"]}
        _VALIDATORS[kind] = jsonschema_rs.validator_for(schema)
    errors = [f"{error.instance_path}: {error.message}" for error in _VALIDATORS[kind].iter_errors(body)]
    assert not errors, errors


@dataclass
class Client:
    """Somebody with a client certificate (DER), or with none."""

    app: GatewayApp
    certificate: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)

    async def request(
        self,
        method: str,
        path: str,
        body: bytes | Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request; ``path`` is as it stands on the request line, query included."""
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        sent = {"host": "gateway.example:8444", **self.headers, **(headers or {})}
        if body is not None:
            sent.setdefault("content-type", "application/json")
        raw_path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": raw_path,
            "raw_path": raw_path.encode(),
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in sent.items()],
            "client": ("192.0.2.7", 40000),
            "extensions": {"tls": {"client_cert_der": self.certificate}},
        }
        messages: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": content, "more_body": False}

        async def send(message: Any) -> None:
            messages.append(message)

        await self.app(scope, receive, send)
        found = {name.decode(): value.decode() for name, value in messages[0]["headers"]}
        return Answer(messages[0]["status"], found, b"".join(m.get("body", b"") for m in messages[1:]))

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.request("GET", path, headers=headers)

    async def enroll(
        self, body: Mapping[str, Any], ca: str = "demo~issuing", query: str = "", **headers: str
    ) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.request("POST", f"{CA_PATH}/{quote(ca)}/enrollments{query}", body, named)

    async def act(self, serial: str, ca: str = "demo~issuing", **action: Any) -> Answer:
        return await self.request("POST", f"{CA_PATH}/{ca}/certificates/{serial}/actions", {"action": action})

    async def act_on_subject(self, dn: str, ca: str = "demo~issuing", **action: Any) -> Answer:
        path = f"{CA_PATH}/{ca}/subjects/{quote(dn, safe='')}/actions"
        return await self.request("POST", path, {"action": action})

    async def certificate_of(self, serial: str, ca: str = "demo~issuing", query: str = "") -> Answer:
        return await self.get(f"{CA_PATH}/{ca}/certificates/{serial}{query}")


def csr(
    common_name: str | None = "www.example",
    *,
    names: list[x509.GeneralName] | None = None,
    key: Any = None,
    extensions: list[tuple[x509.ExtensionType, bool]] | None = None,
) -> bytes:
    """A certificate request in DER; with ``common_name`` None its subject is empty."""
    attributes = [] if common_name is None else [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
    if names is None:
        names = [x509.DNSName("www.example")]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    for extension, critical in extensions or ():
        builder = builder.add_extension(extension, critical=critical)
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key or ec.generate_private_key(ec.SECP256R1()), digest).public_bytes(Encoding.DER)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def wish(**changes: Any) -> dict[str, Any]:
    """The body of an ordinary enrolment."""
    body = {"profileId": "privatessl-tls-server", "requiredFormat": {"format": "X509"}, "csr": b64(csr())}
    return {name: value for name, value in (body | changes).items() if value is not ...}
