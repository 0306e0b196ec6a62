"""Files that ask their reader for more work than any honest writer would."""

from __future__ import annotations

import hashlib
import hmac
from time import monotonic

import pytest
from cryptography.hazmat.decrepit.ciphers.algorithms import ARC4
from cryptography.hazmat.primitives.ciphers import Cipher
from tests.mtls.toolkit.conftest import Identity

from intaglio.asn1 import der
from intaglio.asn1.algorithms import KeyAlgorithm, generate_private_key
from intaglio.core import clock
from intaglio.core.errors import InvalidInput, Refused
from intaglio.mtls.toolkit import inspection, keys, pbe, pkcs12_reader
from intaglio.mtls.toolkit import pkcs12_writer as w
from intaglio.mtls.toolkit.pkcs12_reader import open_pkcs12

_PASSWORD = "correct horse battery"
_SALT = b"12345678"
_RC4 = "1.2.840.113549.1.12.1.1"
_NEVER_DONE = 2_000_000_000


def _tagged(tag: int, content: bytes) -> bytes:
    return bytes((tag,)) + der.octet_string(content)[1:]


def _file(*parts: bytes, mac_iterations: int = 1) -> bytes:
    safe = der.sequence(*parts)
    key = pbe.pkcs12_mac_key("sha1", _PASSWORD, _SALT, 1)
    digest = hmac.new(key, safe, hashlib.sha1).digest()
    info = der.sequence(der.sequence(der.oid("1.3.14.3.2.26"), der.null()), der.octet_string(digest))
    mac = der.sequence(info, der.octet_string(_SALT), der.integer(mac_iterations))
    return der.sequence(der.integer(3), der.sequence(der.oid(w.DATA), _tagged(0xA0, der.octet_string(safe))), mac)


def _encrypted(oid: str, iterations: int, ciphertext: bytes) -> bytes:
    identifier = der.sequence(der.oid(oid), der.sequence(der.octet_string(_SALT), der.integer(iterations)))
    content = der.sequence(der.oid(w.DATA), identifier, _tagged(0x80, ciphertext))
    return der.sequence(der.oid(w.ENCRYPTED_DATA), _tagged(0xA0, der.sequence(der.integer(0), content)))


def _bag_with(iterations: int) -> bytes:
    """A shrouded key whose decryption takes so many rounds of PBKDF2."""
    derivation = der.sequence(
        der.octet_string(_SALT * 2), der.integer(iterations), der.sequence(der.oid("1.2.840.113549.2.9"), der.null())
    )
    cipher = der.sequence(der.oid("2.16.840.1.101.3.4.1.42"), der.octet_string(bytes(16)))
    parameters = der.sequence(der.sequence(der.oid("1.2.840.113549.1.5.12"), derivation), cipher)
    shrouded = der.sequence(der.sequence(der.oid(pbe.PBES2), parameters), der.octet_string(bytes(64)))
    return der.sequence(der.oid(w.SHROUDED_KEY_BAG), _tagged(0xA0, shrouded))


def test_work_that_hides_inside_an_encrypted_part_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pkcs12_reader, "_PATIENCE", 1.0)
    key = pbe._pkcs12_derive("sha1", 1, _PASSWORD, _SALT, 1, 16)
    hidden = Cipher(ARC4(key), None).encryptor().update(der.sequence(_bag_with(_NEVER_DONE)))
    started = monotonic()
    with pytest.raises(Refused) as caught:
        open_pkcs12(_file(_encrypted(_RC4, 1, hidden)), _PASSWORD)
    assert caught.value.code == "encryption-unsupported"
    assert monotonic() - started < 30


@pytest.mark.parametrize(
    "data",
    [
        _file(mac_iterations=pbe.MOST_PKCS12_ITERATIONS + 1),
        _file(_encrypted("1.2.840.113549.1.12.1.3", pbe.MOST_PKCS12_ITERATIONS + 1, bytes(64))),
    ],
    ids=["mac", "content"],
)
def test_the_slow_derivation_of_pkcs12_has_a_lower_bound_of_its_own(data: bytes) -> None:
    with pytest.raises(InvalidInput) as caught:
        open_pkcs12(data, _PASSWORD)
    assert caught.value.code == "iterations-out-of-range"


def test_the_slow_derivation_weighs_more_in_the_sum(alice: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pkcs12_reader, "_MOST_ITERATIONS_TOGETHER", 3 * 2_000)
    protection = w.Protection(w.Variant.COMPATIBLE, 2_000, 2_000)
    made = w.encode_pkcs12(alice.key, alice.certificate, [], _PASSWORD, protection=protection)
    with pytest.raises(InvalidInput) as caught:
        open_pkcs12(made, _PASSWORD)
    assert caught.value.code == "iterations-out-of-range"


def test_a_file_of_many_slow_keys_is_opened_no_further_than_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "_MOST_ITERATIONS", 2_500)
    key = keys.encode_key(generate_private_key(KeyAlgorithm.ECDSA_P256), _PASSWORD, iterations=1_000)
    assert len(inspection.inspect(key * 2, now=clock.now(), password=_PASSWORD)) == 2
    assert len(inspection.inspect(key * 3, now=clock.now())) == 3
    with pytest.raises(InvalidInput) as caught:
        inspection.inspect(key * 3, now=clock.now(), password=_PASSWORD)
    assert caught.value.code == "iterations-out-of-range"
