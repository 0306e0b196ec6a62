"""A private key is recognised in whatever it comes in; a request is not taken for one."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs12,
)
from hypothesis import given
from hypothesis import strategies as st
from tests.mtls.enrolment.conftest import csr

from intaglio.mtls.enrolment.private_keys import holds_private_key
from intaglio.x509 import pem

EC = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)
_PASSWORD = BestAvailableEncryption(b"password")


def _ders() -> dict[str, bytes]:
    found = {
        "SEC 1": EC.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
        "SEC 1, P-521": ec.generate_private_key(ec.SECP521R1()).private_bytes(
            Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()
        ),
        "PKCS #1": RSA.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
        "encrypted PKCS #8": EC.private_bytes(Encoding.DER, PrivateFormat.PKCS8, _PASSWORD),
        "PKCS #12": pkcs12.serialize_key_and_certificates(b"x", EC, None, None, _PASSWORD),
    }
    for name, key in (("EC", EC), ("RSA", RSA), ("Ed25519", ed25519.Ed25519PrivateKey.generate())):
        found[f"PKCS #8 {name}"] = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return found


DERS = _ders()


def _wrappings(der: bytes) -> dict[str, bytes]:
    text = base64.b64encode(der).decode()
    lines = "\r\n".join(text[i : i + 64] for i in range(0, len(text), 64))
    return {
        "as it is": der,
        "base64 in JSON": json.dumps({"csr": text}).encode(),
        "base64 in lines in JSON": json.dumps({"csr": lines}).encode(),
        "URL-safe base64 after a word": b"key=" + base64.urlsafe_b64encode(der),
        "a form": f"csr={quote(text, safe='')}".encode(),
        "hexadecimal": der.hex().encode(),
        "hexadecimal with colons": der.hex(":").upper().encode(),
        "a request's PEM label": json.dumps({"csr": pem.encode("CERTIFICATE REQUEST", der)}).encode(),
        "behind a request": csr("u-1", "a@example.com", "n") + der,
    }


@pytest.mark.parametrize("name", DERS)
def test_a_private_key_is_recognised_in_every_wrapping(name: str) -> None:
    for wrapping, payload in _wrappings(DERS[name]).items():
        assert holds_private_key(payload), wrapping


@pytest.mark.parametrize(
    ("kind", "encryption"),
    [
        (PrivateFormat.PKCS8, NoEncryption()),
        (PrivateFormat.PKCS8, _PASSWORD),
        (PrivateFormat.TraditionalOpenSSL, NoEncryption()),
        (PrivateFormat.TraditionalOpenSSL, _PASSWORD),
        (PrivateFormat.OpenSSH, NoEncryption()),
    ],
)
def test_pem_of_every_kind_is_recognised(kind: PrivateFormat, encryption: Any) -> None:
    text = EC.private_bytes(Encoding.PEM, kind, encryption)
    assert holds_private_key(text)
    assert holds_private_key(json.dumps({"csr": text.decode()}).encode())
    assert holds_private_key(csr("u-1", "a@example.com", "n") + text)
    assert holds_private_key(base64.b64encode(text))


def test_a_json_web_key_is_recognised() -> None:
    number = base64.urlsafe_b64encode(EC.private_numbers().private_value.to_bytes(32, "big")).rstrip(b"=").decode()
    assert holds_private_key(json.dumps({"kty": "EC", "crv": "P-256", "d": number}).encode())
    assert not holds_private_key(json.dumps({"kty": "EC", "crv": "P-256", "x": number}).encode())


KEYS = [EC, RSA, ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 4096)]


@given(
    st.sampled_from(KEYS),
    st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=40),
    st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=60),
)
def test_a_request_is_never_taken_for_a_private_key(key: Any, identity: str, nonce: str) -> None:
    request = csr(identity, f"{identity}@example.com", nonce, key)
    assert not holds_private_key(request)
    assert not holds_private_key(json.dumps({"csr": request.decode()}).encode())
    der = pem.blocks(request, ("CERTIFICATE REQUEST",), limit=1)[0][1]
    assert not holds_private_key(der)
    assert not holds_private_key(json.dumps({"csr": base64.b64encode(der).decode()}).encode())


def test_public_keys_are_no_private_keys() -> None:
    for key in KEYS:
        public = key.public_key()
        for encoding in (Encoding.PEM, Encoding.DER):
            assert not holds_private_key(public.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo))


@given(st.binary(max_size=2000))
def test_looking_never_fails(payload: bytes) -> None:
    holds_private_key(payload)
    holds_private_key(base64.b64encode(payload))
