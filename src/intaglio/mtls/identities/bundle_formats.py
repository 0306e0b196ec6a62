"""Trust bundles in the formats of those who trust: PEM, Java, Kubernetes, AWS, SPIFFE."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import yaml
from cryptography import x509 as pyca
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat, PublicFormat, pkcs12

from intaglio.core.errors import InvalidInput
from intaglio.mtls.identities.bundles import Bundle
from intaglio.x509 import pem
from intaglio.x509.certificates import CertificateInfo

Format = Literal["pem", "jks", "p12", "k8s", "alb", "spiffe"]
FORMATS: Final[tuple[Format, ...]] = ("pem", "jks", "p12", "k8s", "alb", "spiffe")
#: Of Java trust stores, which hold nothing secret but insist on a password.
USUAL_PASSWORD: Final = "changeit"  # noqa: S105 - what every Java installation expects
REFRESH_HINT: Final = 300  # seconds after which to look for a new SPIFFE bundle
_DNS_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_P12_ROUNDS = 10_000


@dataclass(frozen=True)
class BundleOptions:
    """``password`` of Java trust stores; ``name`` and ``namespace`` of Kubernetes objects."""

    password: str = USUAL_PASSWORD
    name: str = "trust-bundle"
    namespace: str = ""


@dataclass(frozen=True)
class BundleFile:
    """A file of an exported bundle."""

    name: str
    media_type: str
    content: bytes = field(repr=False)


def export(bundle: Bundle, wanted: Format, options: BundleOptions) -> list[BundleFile]:
    """The files of a bundle in a format. Raises InvalidInput for options that do not go with it."""
    return _WRITERS[wanted](bundle, options)


def as_one_file(bundle: Bundle, files: Sequence[BundleFile]) -> BundleFile:
    """The only file, or all of them in a ZIP archive."""
    if len(files) == 1:
        return files[0]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.writestr(zipfile.ZipInfo(file.name), file.content)
    return BundleFile(f"{bundle.name}.zip", "application/zip", packed.getvalue())


def spiffe_document(bundle: Bundle) -> dict[str, Any]:
    """The SPIFFE bundle: a JWK set with one key per trust anchor.

    Keys that have no JWK form (ML-DSA) are left out. Source: SPIFFE Trust Domain and Bundle section 4, RFC 7517.
    """
    keys = [_jwk(certificate) for certificate in bundle.anchors]
    return {
        "keys": [key for key in keys if key is not None],
        "spiffe_sequence": bundle.version,
        "spiffe_refresh_hint": REFRESH_HINT,
    }


def _pem(bundle: Bundle, options: BundleOptions) -> list[BundleFile]:
    return [BundleFile(f"{bundle.name}.pem", "application/x-pem-file", _pem_text(bundle.certificates).encode())]


def _p12(bundle: Bundle, options: BundleOptions) -> list[BundleFile]:
    """A PKCS #12 that Java reads as a trust store: certificates only, marked as trusted."""
    password = _password(options)
    certificates = [
        pkcs12.PKCS12Certificate(pyca.load_der_x509_certificate(each.der), alias.encode())
        for alias, each in _aliases(bundle)
    ]
    protection = (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(_P12_ROUNDS)
        .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(SHA256())
        .build(password.encode())
    )
    content = pkcs12.serialize_java_truststore(certificates, protection)
    return [BundleFile(f"{bundle.name}.p12", "application/x-pkcs12", content)]


def _jks(bundle: Bundle, options: BundleOptions) -> list[BundleFile]:
    """Java's old key store format, for programs that cannot read PKCS #12.

    Magic, version 2, entries (tag 2: a trusted certificate), SHA-1 over password, a constant and all before.
    Source: OpenJDK, sun.security.provider.JavaKeyStore.
    """
    password = _password(options)
    certificates = list(_aliases(bundle))
    body = bytearray(b"\xfe\xed\xfe\xed" + (2).to_bytes(4, "big") + len(certificates).to_bytes(4, "big"))
    for alias, each in certificates:
        created = int(each.not_before.timestamp() * 1000)
        body += (2).to_bytes(4, "big") + _java_utf(alias) + created.to_bytes(8, "big")
        body += _java_utf("X.509") + len(each.der).to_bytes(4, "big") + each.der
    keyed = password.encode("utf-16-be") + b"Mighty Aphrodite" + bytes(body)
    body += hashlib.sha1(keyed, usedforsecurity=False).digest()
    return [BundleFile(f"{bundle.name}.jks", "application/octet-stream", bytes(body))]


def _k8s(bundle: Bundle, options: BundleOptions) -> list[BundleFile]:
    """A ConfigMap and a Secret with the bundle as ``ca.crt``."""
    for target, text in (("name", options.name), ("namespace", options.namespace or "default")):
        if not _DNS_LABEL.fullmatch(text):
            raise InvalidInput(
                f'"{text[:80]}" cannot be the {target} of a Kubernetes object.',
                code="name-invalid",
                remedy="Use up to 63 of a-z, 0-9 and -.",
                target=target,
            )
    labels = {"app.kubernetes.io/managed-by": "intaglio"}
    metadata: dict[str, Any] = {"name": options.name, "labels": labels}
    if options.namespace:
        metadata["namespace"] = options.namespace
    text = _pem_text(bundle.certificates)
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"ca.crt": text}}
    encoded = base64.b64encode(text.encode()).decode()
    secret = {
        "apiVersion": "v1", "kind": "Secret", "metadata": dict(metadata), "type": "Opaque", "data": {"ca.crt": encoded},
    }  # fmt: skip
    documents = yaml.dump_all([config_map, secret], Dumper=_PlainDumper, sort_keys=False, width=110)
    return [BundleFile(f"{bundle.name}.yaml", "application/yaml", documents.encode())]


def _alb(bundle: Bundle, options: BundleOptions) -> list[BundleFile]:
    """What a trust store of an AWS load balancer is made from: certificates, CRLs, and the requests that load them.

    Source: Elastic Load Balancing API, CreateTrustStore and AddTrustStoreRevocations.
    """
    stem = re.sub("[^a-z0-9]+", "-", bundle.name).strip("-")[:32]
    files = [BundleFile("trust-store.pem", "application/x-pem-file", _pem_text(bundle.certificates).encode())]
    contents = []
    for crl in bundle.crls:
        name = f"crl-{crl.ca}.pem"
        files.append(BundleFile(name, "application/x-pem-file", pem.encode("X509 CRL", crl.der).encode()))
        contents.append({"S3Bucket": "BUCKET", "S3Key": name, "RevocationType": "CRL"})
    create = {
        "Name": stem,
        "CaCertificatesBundleS3Bucket": "BUCKET",
        "CaCertificatesBundleS3Key": "trust-store.pem",
    }
    revocations = {"TrustStoreArn": "TRUST-STORE-ARN", "RevocationContents": contents}
    files.append(_json_file("create-trust-store.json", create))
    files.append(_json_file("add-trust-store-revocations.json", revocations))
    return files


def _spiffe(bundle: Bundle, options: BundleOptions) -> list[BundleFile]:
    return [_json_file(f"{bundle.name}.json", spiffe_document(bundle))]


_WRITERS: Final[Mapping[Format, Callable[[Bundle, BundleOptions], list[BundleFile]]]] = {
    "pem": _pem,
    "jks": _jks,
    "p12": _p12,
    "k8s": _k8s,
    "alb": _alb,
    "spiffe": _spiffe,
}


class _PlainDumper(yaml.SafeDumper):
    """PEM text as block literals, and no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_PlainDumper.add_representer(str, _block)


def _json_file(name: str, content: Mapping[str, Any]) -> BundleFile:
    return BundleFile(name, "application/json", (json.dumps(content, indent=2) + "\n").encode())


def _pem_text(certificates: Sequence[CertificateInfo]) -> str:
    return "".join(certificate.pem for certificate in certificates)


def _aliases(bundle: Bundle) -> list[tuple[str, CertificateInfo]]:
    """The trust anchors by a name that is unique and, as Java wants it, in lower case."""
    return [(f"{bundle.name}-{each.fingerprint.hex()[:12]}", each) for each in bundle.certificates]


def _java_utf(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(2, "big") + encoded


def _password(options: BundleOptions) -> str:
    if not 6 <= len(options.password) <= 128 or not options.password.isprintable():
        raise InvalidInput(
            "A Java trust store needs a password of 6 to 128 printable characters.",
            code="password-invalid",
            target="password",
        )
    return options.password


def _jwk(certificate: CertificateInfo) -> dict[str, Any] | None:
    """The key of a trust anchor with its certificate. Source: RFC 7518 section 6, RFC 8037 section 2."""
    loaded = pyca.load_der_x509_certificate(certificate.der)
    key = loaded.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        numbers, octets = key.public_numbers(), (key.curve.key_size + 7) // 8
        curve = {256: "P-256", 384: "P-384", 521: "P-521"}[key.curve.key_size]
        members = {"kty": "EC", "crv": curve, "x": _url(numbers.x, octets), "y": _url(numbers.y, octets)}
    elif isinstance(key, rsa.RSAPublicKey):
        public = key.public_numbers()
        members = {"kty": "RSA", "n": _url(public.n), "e": _url(public.e)}
    elif isinstance(key, ed25519.Ed25519PublicKey):
        raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
        members = {"kty": "OKP", "crv": "Ed25519", "x": _url(int.from_bytes(raw, "big"), 32)}
    else:
        return None
    return {**members, "use": "x509-svid", "x5c": [base64.b64encode(certificate.der).decode()]}


def _url(number: int, octets: int | None = None) -> str:
    encoded = number.to_bytes(octets or (number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(encoded).rstrip(b"=").decode()
