"""A client of ACME that signs whatever a test wants signed, also what no client should."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
JOSE = {"content-type": "application/jose+json"}
_EC = {"secp256r1": ("P-256", "ES256", 32), "secp384r1": ("P-384", "ES384", 48), "secp521r1": ("P-521", "ES512", 66)}
_DIGESTS = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}


def encoded(octets: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def as_json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def public_jwk(key: Key) -> dict[str, str]:
    """The public half of a key as a JWK."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        point = key.public_key().public_numbers()
        name, _, size = _EC[key.curve.name]
        return {"crv": name, "kty": "EC", "x": encoded(point.x.to_bytes(size, "big")),
                "y": encoded(point.y.to_bytes(size, "big"))}  # fmt: skip
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = key.public_key().public_numbers()
        e, n = (encoded(each.to_bytes((each.bit_length() + 7) // 8, "big")) for each in (numbers.e, numbers.n))
        return {"e": e, "kty": "RSA", "n": n}
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return {"crv": "Ed25519" if len(raw) == 32 else "Ed448", "kty": "OKP", "x": encoded(raw)}


def thumbprint(key: Key) -> str:
    """RFC 7638."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(json.dumps(public_jwk(key), sort_keys=True, separators=(",", ":")).encode())
    return encoded(digest.finalize())


def algorithm_of(key: Key) -> str:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return _EC[key.curve.name][1]
    return "RS256" if isinstance(key, rsa.RSAPrivateKey) else "EdDSA"


def sign(key: Key, data: bytes, algorithm: str) -> bytes:
    """The signature as JWS wants it (RFC 7518)."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        size = _EC[key.curve.name][2]
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(_DIGESTS[{32: "256", 48: "384", 66: "512"}[size]])))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")
    if isinstance(key, rsa.RSAPrivateKey):
        digest = _DIGESTS[algorithm[2:]]
        if algorithm.startswith("PS"):
            return key.sign(data, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
        return key.sign(data, padding.PKCS1v15(), digest)
    return key.sign(data)


def jws(key: Key, header: Mapping[str, Any], payload: bytes) -> dict[str, str]:
    """A flattened JWS; ``alg`` follows from the key unless the header names one."""
    algorithm = header.get("alg") or algorithm_of(key)
    protected = encoded(as_json({"alg": algorithm, **header}))
    signature = sign(key, f"{protected}.{encoded(payload)}".encode(), algorithm)
    return {"protected": protected, "payload": encoded(payload), "signature": encoded(signature)}


def external_binding(key: Key, kid: str, secret: bytes, url: str, *, algorithm: str = "HS256") -> dict[str, str]:
    """RFC 8555 section 7.3.4."""
    protected = encoded(as_json({"alg": algorithm, "kid": kid, "url": url}))
    payload = encoded(as_json(public_jwk(key)))
    mac = hmac.HMAC(secret, _DIGESTS[algorithm[2:]])
    mac.update(f"{protected}.{payload}".encode())
    return {"protected": protected, "payload": payload, "signature": encoded(mac.finalize())}


def certificate_request(
    names: Sequence[str],
    *,
    key: Any = None,
    common_name: str | None = None,
    subject: Sequence[tuple[x509.ObjectIdentifier, str]] = (),
    addresses: Sequence[str] = (),
    extra: Sequence[x509.GeneralName] = (),
) -> bytes:
    """PKCS #10 in DER."""
    import ipaddress

    attributes = [x509.NameAttribute(oid, value) for oid, value in subject]
    if common_name is not None:
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
    general: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    general += [x509.IPAddress(ipaddress.ip_address(each)) for each in addresses]
    general += list(extra)
    if general:
        builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
    key = key or new_key()
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) else hashes.SHA256()
    return builder.sign(key, digest).public_bytes(Encoding.DER)


@dataclass
class AcmeClient:
    """An account at one directory. ``kid`` is its URL once it is registered."""

    http: httpx.AsyncClient
    directory_url: str
    key: Key = field(default_factory=new_key)
    kid: str | None = None
    directory: dict[str, Any] = field(default_factory=dict)
    nonce: str | None = None

    async def start(self) -> AcmeClient:
        """Read the directory."""
        answer = await self.http.get(self.directory_url)
        assert answer.status_code == 200, answer.text
        self.directory = answer.json()
        return self

    async def fresh_nonce(self) -> str:
        """The nonce of the last answer, or a new one."""
        nonce, self.nonce = self.nonce, None
        if nonce is None:
            nonce = (await self.http.head(self.directory["newNonce"])).headers["replay-nonce"]
        return nonce

    async def post(
        self, url: str, payload: Any = None, *, key: Key | None = None, with_jwk: bool = False, **header: Any
    ) -> httpx.Response:
        """A signed request; without payload a POST-as-GET. ``header`` overrides members; None leaves one out."""
        signer = key or self.key
        own: dict[str, Any] = {"url": url, "nonce": header.pop("nonce", None) or await self.fresh_nonce()}
        own |= {"jwk": public_jwk(signer)} if with_jwk else {"kid": self.kid}
        merged = {name: value for name, value in {**own, **header}.items() if value is not None}
        body = jws(signer, merged, b"" if payload is None else as_json(payload))
        return await self.send(url, body)

    async def send(self, url: str, body: Mapping[str, Any] | bytes) -> httpx.Response:
        """What is posted as it is; remembers the nonce of the answer."""
        content = body if isinstance(body, bytes) else as_json(body)
        answer = await self.http.post(url, content=content, headers=JOSE)
        self.nonce = answer.headers.get("replay-nonce")
        return answer

    async def register(self, **wish: Any) -> httpx.Response:
        """newAccount; on success the account is used from now on."""
        answer = await self.post(self.directory["newAccount"], wish, with_jwk=True)
        if answer.status_code in (200, 201):
            self.kid = answer.headers["location"]
        return answer

    async def order(self, *names: str, addresses: Sequence[str] = (), **more: Any) -> httpx.Response:
        """newOrder for DNS names and addresses."""
        identifiers = [{"type": "dns", "value": name} for name in names]
        identifiers += [{"type": "ip", "value": address} for address in addresses]
        return await self.post(self.directory["newOrder"], {"identifiers": identifiers, **more})

    async def answer_challenges(self, order: Mapping[str, Any], method: str = "http-01") -> None:
        """Take up one challenge of every authorization that waits."""
        for url in order["authorizations"]:
            authorization = (await self.post(url)).json()
            if authorization["status"] == "pending":
                wanted = [each for each in authorization["challenges"] if each["type"] == method]
                chosen = (wanted or authorization["challenges"])[0]
                answer = await self.post(chosen["url"], {})
                assert answer.status_code == 200, answer.text

    async def finalize(self, order: Mapping[str, Any], request: bytes) -> httpx.Response:
        return await self.post(order["finalize"], {"csr": encoded(request)})
