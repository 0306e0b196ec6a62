"""Tokens as OpenSSL and we ourselves see them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.support.authority import OPERATOR, openssl
from tests.timestamping.conftest import POLICY, House, query, shown, verify

from intaglio.asn1 import der
from intaglio.timestamping import issuers
from intaglio.timestamping.reading import read_reply
from intaglio.timestamping.requests import parse_request
from intaglio.timestamping.responses import granted
from intaglio.timestamping.tokens import (
    QUALIFIED_TIMESTAMP,
    SIGNING_CERTIFICATE,
    SIGNING_CERTIFICATE_V2,
    SIGNING_TIME,
)
from intaglio.timestamping.values import TokenProfile


async def test_a_token_verifies_against_its_request_and_its_data(house: House, root_file: Path, tmp_path: Path) -> None:
    await house.issuer()
    reply = await house.reply(query(tmp_path))
    text = shown(tmp_path, reply)
    assert "Status: Granted." in text
    assert f"Policy OID: {POLICY}" in text
    assert "Accuracy: unspecified" in text
    assert "Ordering: no" in text
    assert "TSA: DirName:" in text
    assert "Verification: OK" in verify(tmp_path, reply, root_file)
    assert "Verification: OK" in verify(tmp_path, reply, root_file, "-data", tmp_path / "data.txt")


@pytest.mark.parametrize("key", ["rsa-2048", "rsa-3072", "rsa-4096", "ecdsa-p256", "ecdsa-p384", "ecdsa-p521"])
@pytest.mark.parametrize("digest", ["sha256", "sha512"])
async def test_every_kind_of_key_signs(house: House, root_file: Path, tmp_path: Path, key: str, digest: str) -> None:
    await house.issuer(signer={"key_algorithm": key}, profile={"digest": digest})
    reply = await house.reply(query(tmp_path))
    assert "Verification: OK" in verify(tmp_path, reply, root_file)
    assert read_reply(reply).digest_name == digest


@pytest.mark.parametrize("option", ["-sha224", "-sha256", "-sha384", "-sha512"])
async def test_the_usual_hashes_are_accepted(house: House, root_file: Path, tmp_path: Path, option: str) -> None:
    await house.issuer()
    assert "Verification: OK" in verify(tmp_path, await house.reply(query(tmp_path, option, "-cert")), root_file)


@pytest.mark.parametrize("option", ["-sha1", "-md5", "-sha3-256"])
async def test_other_hashes_are_refused(house: House, tmp_path: Path, option: str) -> None:
    await house.issuer()
    text = shown(tmp_path, await house.reply(query(tmp_path, option)))
    assert "Status: Rejected." in text
    assert "unrecognized or unsupported algorithm identifier" in text


async def test_sha1_and_sha3_can_be_allowed(house: House, root_file: Path, tmp_path: Path) -> None:
    await house.issuer(profile={"hashes": ("sha1", "sha256", "sha3-256")})
    old = await house.reply(query(tmp_path, "-sha1", "-cert"))
    assert "Verification: OK" in verify(tmp_path, old, root_file)
    assert {SIGNING_CERTIFICATE, SIGNING_CERTIFICATE_V2} < set(read_reply(old).attributes)
    new = await house.reply(query(tmp_path, "-sha3-256", "-cert"))
    assert "Verification: OK" in verify(tmp_path, new, root_file)
    assert SIGNING_CERTIFICATE not in read_reply(new).attributes


async def test_another_policy_than_the_issuers_is_refused(house: House, tmp_path: Path) -> None:
    await house.issuer()
    text = shown(tmp_path, await house.reply(query(tmp_path, "-sha256", "-tspolicy", "1.2.3.4.5")))
    assert "the requested TSA policy is not supported by the TSA" in text
    assert "Status: Granted." in shown(tmp_path, await house.reply(query(tmp_path, "-sha256", "-tspolicy", POLICY)))


async def test_the_nonce_comes_back_and_may_be_missing(house: House, root_file: Path, tmp_path: Path) -> None:
    await house.issuer()
    with_nonce = await house.reply(query(tmp_path))
    assert read_reply(with_nonce).info.nonce is not None
    without = await house.reply(query(tmp_path, "-sha256", "-cert", "-no_nonce"))
    assert read_reply(without).info.nonce is None
    assert "Verification: OK" in verify(tmp_path, without, root_file)


async def test_garbage_gets_a_rejection(house: House, tmp_path: Path) -> None:
    await house.issuer()
    text = shown(tmp_path, await house.reply(bytes(range(200))))
    assert "Status: Rejected." in text
    assert "the data submitted has the wrong format" in text


@pytest.mark.parametrize(
    ("accuracy", "expected"),
    [
        ("1s", "0x01 seconds, unspecified millis, unspecified micros"),
        ("500ms", "unspecified seconds, 0x01F4 millis, unspecified micros"),
        ("2s 250ms 7us", "0x02 seconds, 0xFA millis, 0x07 micros"),
    ],
)
async def test_accuracy_is_told_as_configured(house: House, tmp_path: Path, accuracy: str, expected: str) -> None:
    await house.issuer(profile={"accuracy": accuracy})
    assert f"Accuracy: {expected}" in shown(tmp_path, await house.reply(query(tmp_path)))


@pytest.mark.parametrize("octets", [8, 13, 20])
async def test_serial_numbers_have_the_configured_length(house: House, tmp_path: Path, octets: int) -> None:
    await house.issuer(profile={"serial_octets": octets})
    request = query(tmp_path)
    serials = [read_reply(await house.reply(request)).info.serial for _ in range(20)]
    assert {len(serial) for serial in serials} == {octets}
    assert len(set(serials)) == 20


@pytest.mark.parametrize("octets", [7, 21])
def test_other_lengths_of_serial_numbers_are_refused(octets: int) -> None:
    with pytest.raises(ValueError, match="serial_octets"):
        TokenProfile(policy=POLICY, serial_octets=octets)


def test_the_signature_digest_must_be_an_allowed_hash() -> None:
    with pytest.raises(ValueError, match="digest must be one of hashes"):
        TokenProfile(policy=POLICY, hashes=("sha512",), digest="sha256")


@pytest.mark.parametrize("qualified", [True, False])
async def test_a_token_is_called_qualified_only_when_configured(house: House, tmp_path: Path, qualified: bool) -> None:
    await house.issuer(profile={"qualified": qualified})
    token = read_reply(await house.reply(query(tmp_path)))
    assert (der.oid(QUALIFIED_TIMESTAMP) in token.content) is qualified
    assert token.info.qualified is qualified


async def test_signed_attributes_are_sorted_as_der_demands(house: House, tmp_path: Path) -> None:
    await house.issuer(profile={"digest": "sha384", "hashes": ("sha1", "sha384")})
    token = read_reply(await house.reply(query(tmp_path, "-sha1")))
    members = [each.der for each in der.children(der.read_tlv(token.signed_attributes).content)]
    assert members == sorted(members)
    assert len(members) == 5


async def test_two_issuers_may_share_a_certificate_or_not(house: House, tmp_path: Path) -> None:
    await house.issuer("first")
    await house.issuer("second", share_with="first", profile={"policy": "1.2.3.4", "accuracy": "1s"})
    await house.issuer("third")
    request = query(tmp_path)
    signers = [read_reply(await house.reply(request, name)).issuer_and_serial for name in ("first", "second", "third")]
    assert signers[0] == signers[1] != signers[2]
    assert "Policy OID: 1.2.3.4" in shown(tmp_path, await house.reply(request, "second"))


async def test_the_certificate_says_timestamping_critically_and_nothing_else(house: House, tmp_path: Path) -> None:
    made = await house.issuer(signer={"policies": ("1.2.3.4",), "access_information": False})
    assert made.certificate is not None
    (tmp_path / "tsa.pem").write_text(made.certificate.pem)
    text = openssl("x509", "-in", tmp_path / "tsa.pem", "-noout", "-text", "-purpose")
    assert "Time Stamp signing : Yes" in text
    assert re.search(r"Extended Key Usage: critical\s+Time Stamping\n", text)
    assert "Policy: 1.2.3.4" in text
    assert "Authority Information Access" not in text
    plain = await house.issuer("plain")
    assert plain.certificate is not None
    (tmp_path / "tsa.pem").write_text(plain.certificate.pem)
    assert "Authority Information Access" in openssl("x509", "-in", tmp_path / "tsa.pem", "-noout", "-text")


async def test_a_changed_policy_counts_at_once(house: House, tmp_path: Path) -> None:
    made = await house.issuer()
    await house.reply(query(tmp_path))
    profile = TokenProfile(**{**made.record.profile.model_dump(), "policy": "1.2.3.4.5.6"})
    await issuers.change_issuer(house.timestamps, OPERATOR, "standard", profile=profile)
    await house.app.configuration_changed()
    assert read_reply(await house.reply(query(tmp_path))).info.policy == "1.2.3.4.5.6"


@pytest.mark.parametrize("accuracy", [None, "20ms"])
async def test_tokens_of_different_seconds_say_so_in_every_place(
    house: House, root_file: Path, tmp_path: Path, accuracy: str | None
) -> None:
    await house.issuer(profile={"hashes": ("sha1", "sha256"), "accuracy": accuracy})
    maker = house.app.service.directory.issuers["standard"].maker
    assert maker is not None
    for option in ("-sha256", "-sha1"):
        request = parse_request(query(tmp_path, option))
        start = datetime(2026, 12, 31, 23, 59, 59, 120_000, tzinfo=UTC)
        for at in (start, start + timedelta(seconds=1), start + timedelta(milliseconds=500), start):
            unsigned = maker.unsigned(request, bytes.fromhex("41") * 8, at)
            token = read_reply(granted(maker.signed(unsigned, b"signature", with_certificates=False)))
            assert token.info.time == (at if accuracy else at.replace(microsecond=0))
            assert der.utc_or_generalized_time(at.replace(microsecond=0)) in token.attributes[SIGNING_TIME]
            members = [each.der for each in der.children(der.read_tlv(unsigned.to_be_signed, der.SET).content, 9)]
            assert members == sorted(members)
            assert len(members) == (5 if option == "-sha1" else 4)
