"""Encrypted messages: what we encrypt others read, what others encrypt we read, and failures look alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from intaglio.core.errors import InvalidInput, TooLarge
from intaglio.x509.cms.enveloped import read_enveloped
from intaglio.x509.cms.enveloping import envelop
from intaglio.x509.cms.identifiers import CIPHERS, CipherName

OpenSsl = Callable[..., str]
People = dict[str, Any]  # Person of conftest, by name


@pytest.mark.parametrize("cipher", [each for each in CIPHERS if each != "des-cbc"])
@pytest.mark.parametrize("name", ["rsa", "ec"])
def test_openssl_decrypts_what_we_encrypt(
    people: People, openssl: OpenSsl, message: Path, tmp_path: Path, name: str, cipher: CipherName
) -> None:
    person, out, back = people[name], tmp_path / "enveloped.der", tmp_path / "back"
    out.write_bytes(envelop(message.read_bytes(), person.certificate, cipher))
    openssl(
        "cms", "-decrypt", "-inform", "DER", "-in", str(out), "-recip", person.certificate_file,
        "-inkey", person.key_file, "-binary", "-out", str(back),
    )  # fmt: skip
    assert back.read_bytes() == message.read_bytes()


@pytest.mark.parametrize("cipher", ["-aes128", "-aes192", "-aes256"])
@pytest.mark.parametrize("name", ["rsa", "ec"])
@pytest.mark.parametrize("options", [[], ["-keyid"], ["-stream"]])
def test_what_openssl_encrypts_is_decrypted(
    people: People, openssl: OpenSsl, message: Path, tmp_path: Path, name: str, cipher: str, options: list[str]
) -> None:
    person, out = people[name], tmp_path / "enveloped.der"
    recipients = [people["other"].certificate_file, person.certificate_file]
    openssl(
        "cms", "-encrypt", "-in", str(message), "-binary", cipher, "-outform", "DER", "-out", str(out), *options,
        *recipients,
    )  # fmt: skip
    assert read_enveloped(out.read_bytes()).decrypt(person.key, person.certificate) == message.read_bytes()


@pytest.mark.parametrize("digest", ["sha1", "sha256"])
def test_oaep_is_decrypted(people: People, openssl: OpenSsl, message: Path, tmp_path: Path, digest: str) -> None:
    person, out = people["rsa"], tmp_path / "enveloped.der"
    openssl(
        "cms", "-encrypt", "-in", str(message), "-binary", "-aes256", "-outform", "DER", "-out", str(out),
        "-recip", person.certificate_file, "-keyopt", "rsa_padding_mode:oaep", "-keyopt", f"rsa_oaep_md:{digest}",
    )  # fmt: skip
    assert read_enveloped(out.read_bytes()).decrypt(person.key, person.certificate) == message.read_bytes()


@pytest.mark.parametrize("option", ["-des3", "-des"])
def test_old_ciphers_are_refused_unless_they_are_asked_for(
    people: People, openssl: OpenSsl, message: Path, tmp_path: Path, option: str
) -> None:
    person, out = people["rsa"], tmp_path / "enveloped.der"
    provider = ["-provider", "legacy", "-provider", "default"] if option == "-des" else []
    openssl(
        "cms", "-encrypt", "-in", str(message), "-binary", option, *provider, "-outform", "DER", "-out", str(out),
        person.certificate_file,
    )  # fmt: skip
    read = read_enveloped(out.read_bytes())
    with pytest.raises(InvalidInput) as refusal:
        read.decrypt(person.key, person.certificate)
    assert refusal.value.code == "cms-algorithm-not-allowed"
    assert read.cipher is not None
    assert read.decrypt(person.key, person.certificate, ciphers={read.cipher.name}) == message.read_bytes()
    assert read.cipher.name == {"-des3": "3des-cbc", "-des": "des-cbc"}[option]


def test_a_message_for_somebody_else_is_refused(people: People) -> None:
    enveloped = read_enveloped(envelop(b"content", people["other"].certificate))
    with pytest.raises(InvalidInput) as refusal:
        enveloped.decrypt(people["rsa"].key, people["rsa"].certificate)
    assert refusal.value.code == "cms-wrong-recipient"


@pytest.mark.parametrize("name", ["rsa", "ec"])
def test_a_damaged_key_is_not_told_from_a_damaged_content(people: People, name: str) -> None:
    person = people[name]
    whole = envelop(b"secret " * 30, person.certificate)
    read = read_enveloped(whole)
    key = read.recipients[0].encrypted_key
    damaged_key = whole.replace(key, key[:-1] + bytes((key[-1] ^ 1,)))
    damaged_content = whole[:-1] + bytes((whole[-1] ^ 1,))
    for damaged in (damaged_key, damaged_content):
        _, error = _decrypt(damaged, person)
        # Once in some hundred times, chance makes a readable padding; then there is no error, but no content either.
        assert error in (None, "cms-undecryptable")


@given(
    name=st.sampled_from(["rsa", "ec"]), place=st.integers(0, 2**16), lost=st.integers(0, 8), new=st.binary(max_size=8)
)
def test_any_damage_is_decrypted_or_refused(people: People, name: str, place: int, lost: int, new: bytes) -> None:
    person = people[name]
    whole = envelop(b"content", person.certificate)
    start = place % len(whole)
    _, error = _decrypt(whole[:start] + new + whole[start + lost :], person)
    assert error is None or error.startswith("cms-")


@given(st.binary(max_size=300))
@example(b"\x30\x80" * 100)
def test_any_octets_are_read_or_refused(people: People, data: bytes) -> None:
    _, error = _decrypt(data, people["rsa"])
    assert error is not None


def test_keys_that_cannot_be_encrypted_to_are_named(people: People) -> None:
    with pytest.raises(InvalidInput) as refusal:
        envelop(b"content", people["ed25519"].certificate)
    assert refusal.value.code == "recipient-key-unfit"


def test_messages_beyond_the_limit_are_not_looked_at() -> None:
    with pytest.raises(TooLarge):
        read_enveloped(bytes(101), max_octets=100)


def _decrypt(data: bytes, person: Any) -> tuple[bytes | None, str | None]:
    try:
        return read_enveloped(data).decrypt(person.key, person.certificate), None
    except InvalidInput as error:
        return None, error.code
