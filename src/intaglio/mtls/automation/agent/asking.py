"""Asking the server for a certificate: key and request made here, the answer checked before it is used."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from intaglio import __version__
from intaglio.core.clock import rfc3339
from intaglio.core.errors import Forbidden, IntaglioError, InvalidInput, RateLimited, Unavailable
from intaglio.mtls.automation.agent.options import Options
from intaglio.mtls.automation.agent.store import CERTIFICATE, COMBINED, KEY, TRUST, Version

_PATIENCE = 30.0
_LARGEST_ANSWER = 1 << 20
_LONGEST_TOKEN = 16 * 1024
_MOST_CERTIFICATES = 50


class Refusal(Forbidden):
    """The server said no, and asking again will not help: somebody has to do something."""

    default_code = "agent-refused"


@dataclass(frozen=True)
class Answer:
    """A certificate that is good for its key: files to write, and what is told about them. ``server_time`` is the
    clock of the server, None when it did not say."""

    files: dict[str, bytes] = field(repr=False)
    about: dict[str, str]
    server_time: datetime | None


def new_key() -> bytes:
    """A fresh P-256 key, PEM. It never leaves this machine."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def ask(options: Options, key_pem: bytes, holder: Version | None) -> Answer:
    """Ask for a certificate over a key, with the certificate ``holder``, or with what proves the identity at first.

    Raises Refusal, Unavailable (server away, answer unreadable), RateLimited, InvalidInput (a file of ours).
    """
    body: dict[str, Any] = {"csr": _request(key_pem), "dns_names": list(options.dns_names)}
    if options.lifetime:
        body["lifetime"] = options.lifetime
    headers = {"content-type": "application/json", "user-agent": f"intaglio-agent/{__version__}"}
    if holder is None:
        headers["authorization"] = f"Bearer {_proof(options)}"
        if options.pipeline:
            body["pipeline"] = options.pipeline
    status, answered, content = _exchange(options, holder, headers, json.dumps(body).encode())
    if status != 200:
        raise _refused(status, answered, content)
    return _checked(options, key_pem, content, _server_time(answered))


def _request(key_pem: bytes) -> str:
    """A request over the key. It has no name: names come from the registry."""
    key = load_pem_private_key(key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM).decode()


def _proof(options: Options) -> str:
    path = options.jwt_file or options.token_file
    if path is None:
        raise Refusal(
            "There is no certificate that is still good, and nothing else to prove who this is.",
            code="proof-missing",
            remedy="Have a bootstrap token made (intaglio mtls agent token IDENTITY) and give it with --token-file.",
        )
    try:
        with open(path, encoding="ascii") as file:
            token = file.read(_LONGEST_TOKEN + 1).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Unavailable(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is no token'}.",
            code="token-file-unreadable",
            remedy="Write the token there.",
        ) from None
    if not token or len(token) > _LONGEST_TOKEN or not token.isprintable():
        raise Unavailable(f"{path} holds no token.", code="token-file-unreadable", remedy="Write the token there.")
    return token


def _exchange(
    options: Options, holder: Version | None, headers: dict[str, str], body: bytes
) -> tuple[int, http.client.HTTPMessage, bytes]:
    parts = urlsplit(options.server)
    assert parts.hostname is not None
    connection = http.client.HTTPSConnection(
        parts.hostname, parts.port or 443, timeout=_PATIENCE, context=_context(options.ca_file, holder)
    )
    try:
        connection.request("POST", "/mtls/v1/sign", body, headers)
        response = connection.getresponse()
        content = response.read(_LARGEST_ANSWER + 1)
        return response.status, response.headers, content
    except ssl.SSLCertVerificationError as error:
        raise Unavailable(
            f"The server at {options.server} does not prove who it is: {error.verify_message}.",
            code="server-not-trusted",
            remedy="Name its CA with --ca-file, and see that the clock of this machine is right.",
        ) from None
    except (OSError, http.client.HTTPException, socket.gaierror) as error:
        raise Unavailable(
            f"The server at {options.server} cannot be reached: {error or type(error).__name__}.",
            code="server-unreachable",
        ) from None
    finally:
        connection.close()


def _context(ca_file: Path | None, holder: Version | None) -> ssl.SSLContext:
    """The server is always verified."""
    try:
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except (OSError, ssl.SSLError):
        raise InvalidInput(f"{ca_file} is not a readable file of PEM certificates.", target="--ca-file") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if holder is not None:
        try:
            context.load_cert_chain(holder.certificate, holder.key)
        except (OSError, ssl.SSLError) as error:
            raise Unavailable(
                f"{holder.folder} cannot be used: {error}.", code="certificate-unusable",
                remedy="Remove it and bootstrap anew.",
            ) from None  # fmt: skip
    return context


def _refused(status: int, headers: http.client.HTTPMessage, content: bytes) -> IntaglioError:
    try:
        problem = json.loads(content)
        detail, code = str(problem["detail"])[:500], str(problem["code"])[:100]
        remedy = str(problem.get("remedy", ""))[:500]
    except (ValueError, KeyError, TypeError):
        return Unavailable(f"The server answers {status} without a reason.", code="answer-unreadable")
    if status == 429:
        return RateLimited(detail, code=code, remedy=remedy, retry_after=_seconds(headers.get("retry-after")))
    if status >= 500 or code == "status_unavailable":
        return Unavailable(detail, code=code, remedy=remedy)
    return Refusal(detail, code=code, remedy=remedy)


def _seconds(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 6 else None


def _server_time(headers: http.client.HTTPMessage) -> datetime | None:
    try:
        return parsedate_to_datetime(headers.get("date", "")).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def _checked(options: Options, key_pem: bytes, content: bytes, server_time: datetime | None) -> Answer:
    """What the server sent, if it is a certificate of the right identity over our key."""
    try:
        if len(content) > _LARGEST_ANSWER:
            raise ValueError("it is too long")
        found = json.loads(content)
        leaf = x509.load_pem_x509_certificate(found["certificate"].encode())
        chain = [x509.load_pem_x509_certificate(each.encode()) for each in found["chain"][:_MOST_CERTIFICATES]]
        trusted = [x509.load_pem_x509_certificate(each.encode()) for each in found["bundle"][:_MOST_CERTIFICATES]]
        identity = str(found["identity"])
        if _spki(leaf.public_key()) != _spki(load_pem_private_key(key_pem, None).public_key()):
            raise ValueError("the certificate is over another key")
        if not trusted:
            raise ValueError("there is nothing to trust")
        leaf.verify_directly_issued_by(chain[0])
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise Unavailable(f"The answer of the server cannot be used: {error}.", code="answer-unreadable") from None
    except InvalidSignature:
        raise Unavailable("The certificate is not signed by its issuer.", code="answer-unreadable") from None
    if not is_named(identity, options.identity):
        raise Refusal(
            f'The proof is that of {identity}, not of "{options.identity}".',
            code="identity-foreign",
            remedy="Use the token that was made for this identity, or leave --identity out.",
        )
    between = [each for each in chain if each.subject != each.issuer]
    files = {
        CERTIFICATE: b"".join(each.public_bytes(Encoding.PEM) for each in (leaf, *between)),
        KEY: key_pem,
        TRUST: b"".join(each.public_bytes(Encoding.PEM) for each in trusted),
    }
    if options.combined:
        files[COMBINED] = files[CERTIFICATE] + key_pem
    about = {
        "identity": identity,
        "serial": f"{leaf.serial_number:040X}",
        "not_before": rfc3339(leaf.not_valid_before_utc),
        "not_after": rfc3339(leaf.not_valid_after_utc),
    }
    return Answer(files, about, server_time)


def is_named(uri: str, wanted: str) -> bool:
    """Whether the SPIFFE ID is who was meant: itself, a name, ``kind:name``, either with ``@trust-domain``."""
    if not wanted or uri == wanted:
        return True
    domain, *path = uri.removeprefix("spiffe://").split("/")
    if len(path) < 2:
        return False
    segment, name = path[-2:]
    kind = "service" if segment == "svc" else segment
    given, at, given_domain = wanted.partition("@")
    return given in (name, f"{kind}:{name}") and (not at or given_domain == domain)


def _spki(key: Any) -> bytes:
    found: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return found

