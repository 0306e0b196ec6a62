"""Messages from outside: what is not exactly a request is refused, and nothing else ever happens."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from tests.support.acme_client import Key, as_json, encoded, jws, public_jwk, thumbprint

from intaglio.enrollment.acme.errors import AcmeProblem, BadPublicKey, BadSignatureAlgorithm, Malformed, Unauthorized
from intaglio.enrollment.acme.jwk import jwk_of, read_jwk
from intaglio.enrollment.acme.jws import MAX_OCTETS, Jws, parse_request
from intaglio.enrollment.acme.strict_json import decode_base64url, encode_base64url, read_object

RSA = rsa.generate_private_key(65537, 2048)
P256 = ec.generate_private_key(ec.SECP256R1())
KEYS: list[tuple[Key, str]] = [
    (P256, "ES256"),
    (ec.generate_private_key(ec.SECP384R1()), "ES384"),
    (ec.generate_private_key(ec.SECP521R1()), "ES512"),
    *((RSA, f"{kind}{bits}") for kind in ("RS", "PS") for bits in (256, 384, 512)),
    (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
    (ed25519.Ed25519PrivateKey.generate(), "Ed25519"),
    (ed448.Ed448PrivateKey.generate(), "EdDSA"),
]
HEADER = {"nonce": "n", "url": "https://acme.example/x"}


def message(key: Key = P256, payload: bytes = b"{}", **header: Any) -> dict[str, str]:
    own = {**HEADER, "jwk": public_jwk(key), **header}
    return jws(key, {name: value for name, value in own.items() if value is not None}, payload)


def parsed(key: Key = P256, **header: Any) -> Jws:
    return parse_request(as_json(message(key, **header)))


@pytest.mark.parametrize(("key", "algorithm"), KEYS, ids=[algorithm for _, algorithm in KEYS])
def test_every_algorithm_is_verified(key: Key, algorithm: str) -> None:
    found = parsed(key, alg=algorithm)
    found.verify(found.jwk)
    assert found.jwk.thumbprint_text == thumbprint(key)
    forged = Jws(found.protected, found.payload, found.signing_input + b"x", found.signature)
    with pytest.raises(Unauthorized):
        forged.verify(found.jwk)


@pytest.mark.parametrize("algorithm", ["none", "None", "HS256", "HS512", "RSA-OAEP", "ES256K", ""])
def test_other_algorithms_are_refused_and_the_answer_lists_ours(algorithm: str) -> None:
    body = message()
    body["protected"] = encoded(as_json({"alg": algorithm, **HEADER, "jwk": public_jwk(P256)}))
    with pytest.raises(BadSignatureAlgorithm):
        parse_request(as_json(body))


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "ES256"), (P256, "RS256"), (P256, "ES384"), (P256, "EdDSA")])
def test_an_algorithm_that_does_not_belong_to_the_key_is_refused(key: Key, algorithm: str) -> None:
    body = message(key)
    body["protected"] = encoded(as_json({"alg": algorithm, **HEADER, "jwk": public_jwk(key)}))
    found = parse_request(as_json(body))
    with pytest.raises(BadSignatureAlgorithm):
        found.verify(found.jwk)


def test_a_signature_of_another_length_or_in_der_is_refused() -> None:
    found = parsed()
    octets = P256.sign(found.signing_input, ec.ECDSA(hashes.SHA256()))
    for signature in (b"", found.signature[:-1], found.signature + b"\0", octets, bytes(64)):
        with pytest.raises(Unauthorized):
            Jws(found.protected, found.payload, found.signing_input, signature).verify(found.jwk)


def _with(**changes: Any) -> bytes:
    return as_json({**message(), **changes})


def _protected(**changes: Any) -> bytes:
    header = {"alg": "ES256", **HEADER, "jwk": public_jwk(P256), **changes}
    header = {name: value for name, value in header.items() if value is not None}
    return _with(protected=encoded(as_json(header)))


MALFORMED = {
    "not json": b"{",
    "not an object": b"[]",
    "not utf-8": b'{"payload": "\xff"}',
    "a name twice": b'{"payload":"","payload":"","protected":"","signature":""}',
    "deep": b'{"payload":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a huge number": b'{"payload":' + b"9" * 100_000 + b"}",
    "NaN": b'{"payload": NaN}',
    "half a character": b'{"payload": "\\ud800"}',
    "several signatures": _with(signatures=[]),
    "an unprotected header": _with(header={"alg": "ES256"}),
    "no payload": as_json({"protected": "e30", "signature": ""}),
    "payload of another type": _with(payload={}),
    "padding": _with(payload="e30="),
    "another alphabet": _with(payload="+/+/"),
    "line breaks": _with(payload="e3\n0"),
    "bits too many": _with(payload="e31"),
    "no algorithm": _protected(alg=None),
    "kid and jwk": _protected(kid="https://acme.example/account/1"),
    "neither kid nor jwk": _protected(jwk=None),
    "critical extensions": _protected(crit=["b64"], b64=False),
    "a long header": _protected(filler="x" * 9000),
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_request_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        parse_request(body)


def test_a_message_that_is_too_long_is_refused() -> None:
    with pytest.raises(Malformed):
        parse_request(b" " * (MAX_OCTETS + 1))


BAD_KEYS: dict[str, Any] = {
    "nothing": None,
    "a list": [],
    "symmetric": {"kty": "oct", "k": "AAAA"},
    "private": {**public_jwk(P256), "d": "AAAA"},
    "of an unknown type": {"kty": "XYZ"},
    "on another curve": {**public_jwk(P256), "crv": "secp256k1"},
    "not on its curve": {**public_jwk(P256), "y": encoded(bytes(32))},
    "with a short coordinate": {**public_jwk(P256), "x": encoded(bytes(31))},
    "with a number for a string": {**public_jwk(P256), "x": 5},
    "with a long member": {**public_jwk(RSA), "n": "A" * 5000},
    "of 1024 bits": public_jwk(rsa.generate_private_key(65537, 1024)),
    "with exponent 3": {**public_jwk(RSA), "e": "Aw"},
    "with an even exponent": {**public_jwk(RSA), "e": "Ag"},
    "with leading zeros": {**public_jwk(RSA), "e": encoded(b"\0\1\0\1")},
    "Edwards of a wrong length": {"kty": "OKP", "crv": "Ed25519", "x": encoded(bytes(31))},
    "for agreement": {"kty": "OKP", "crv": "X25519", "x": encoded(bytes(32))},
}


@pytest.mark.parametrize("value", BAD_KEYS.values(), ids=BAD_KEYS)
def test_keys_that_are_weak_private_or_no_keys_are_refused(value: Any) -> None:
    with pytest.raises((Malformed, BadPublicKey)):
        read_jwk(value)


@pytest.mark.parametrize(("key", "algorithm"), KEYS, ids=[algorithm for _, algorithm in KEYS])
def test_a_key_is_the_same_from_json_and_from_a_certificate(key: Key, algorithm: str) -> None:
    found = jwk_of(key.public_key())
    assert found is not None
    assert found == read_jwk({**public_jwk(key), "kid": "ignored", "use": "sig"})


def test_thumbprints_are_those_of_the_standard() -> None:
    # RFC 7638 section 3.1
    n = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMs"
        "tn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1"
        "n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    jwk = read_jwk({"kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"})
    assert jwk.thumbprint_text == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


@given(st.binary(max_size=200))
def test_base64url_has_one_spelling(octets: bytes) -> None:
    assert decode_base64url(encode_base64url(octets), "it") == octets
    for other in (encode_base64url(octets) + "=", encode_base64url(octets) + "\n"):
        with pytest.raises(Malformed):
            decode_base64url(other, "it")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20), lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(["protected", "payload", "signature", "alg", "jwk", "kid", "url"]), inner)
)  # fmt: skip


@given(_JSON, st.binary(max_size=60))
def test_any_other_message_ends_in_a_problem(value: Any, noise: bytes) -> None:
    for body in (json.dumps(value).encode("utf-8", "replace"), noise, _with(protected=encoded(noise))):
        with pytest.raises(AcmeProblem):
            parse_request(body)


@given(_JSON)
def test_any_header_ends_in_a_problem_or_in_a_message_with_a_key(value: Any) -> None:
    header = value if isinstance(value, dict) else {"alg": "ES256", "jwk": value}
    body = _with(protected=base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode())
    try:
        found = parse_request(body)
        found.verify(found.jwk)
    except AcmeProblem:
        return
    pytest.fail("nobody can have signed this")


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=10)))
def test_objects_are_read_as_they_were_written(value: dict[str, str]) -> None:
    assert read_object(json.dumps(value).encode(), "it") == value
