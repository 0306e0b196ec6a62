"""Verifying tokens as a relying party: what is altered is found out."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.timestamping.conftest import House, query

from intaglio.asn1 import der
from intaglio.core.errors import InvalidInput, Refused
from intaglio.timestamping.reading import Token, read_reply, read_time
from intaglio.timestamping.tokens import MESSAGE_DIGEST, SIGNING_CERTIFICATE_V2, generalized_time
from intaglio.timestamping.verification import hash_of, verify_token
from intaglio.x509.certificates import CertificateInfo, read_certificate

DATA = b"to be stamped"


@pytest.fixture
async def root(house: House) -> CertificateInfo:
    return read_certificate((await house.timestamps.authority.current()).ca("demo~root").chain[-1])


@pytest.fixture
async def token(house: House, tmp_path: Path) -> Token:
    await house.issuer()
    return read_reply(await house.reply(query(tmp_path, data=DATA)))


async def test_a_good_token_leads_up_to_the_root(token: Token, root: CertificateInfo) -> None:
    chain = verify_token(token, [root], digest=hash_of(DATA, "sha256"), nonce=token.info.nonce)
    assert [each.subject.common_names[-1] for each in chain] == ["standard Timestamping", "issuing", "root"]


async def test_everything_that_does_not_fit_is_told(token: Token, root: CertificateInfo) -> None:
    altered = {
        "timestamp-signature": replace(token, signature=token.signature[:-1] + bytes([token.signature[-1] ^ 1])),
        "timestamp-attributes": replace(token, content=token.content + b"\0"),
        "timestamp-no-certificate": replace(token, certificates=()),
    }
    for code, wrong in altered.items():
        with pytest.raises(Refused) as refused:
            verify_token(wrong, [root])
        assert refused.value.code == code
    for attribute in (MESSAGE_DIGEST, SIGNING_CERTIFICATE_V2):
        without = {oid: value for oid, value in token.attributes.items() if oid != attribute}
        with pytest.raises(Refused):
            verify_token(replace(token, attributes=without), [root])
    with pytest.raises(Refused, match="other data"):
        verify_token(token, [root], digest=hash_of(b"something else", "sha256"))
    with pytest.raises(Refused, match="another request"):
        verify_token(token, [root], nonce=1)
    with pytest.raises(Refused, match="root that you trust"):
        verify_token(token, [])


async def test_a_rejection_is_told_with_its_reason(house: House, tmp_path: Path) -> None:
    await house.issuer()
    with pytest.raises(Refused, match="badAlg"):
        read_reply(await house.reply(query(tmp_path, "-sha1")))


async def test_a_reply_with_octets_changed_is_read_or_refused(house: House, tmp_path: Path) -> None:
    await house.issuer()
    reply = await house.reply(query(tmp_path))
    for place in range(0, len(reply), 3):
        changed = bytearray(reply)
        changed[place] ^= 0x41
        with contextlib.suppress(InvalidInput, Refused):
            read_reply(bytes(changed))


@given(st.binary(max_size=400))
def test_any_octets_are_a_reply_or_refused(data: bytes) -> None:
    with contextlib.suppress(InvalidInput, Refused):
        read_reply(data)


@given(st.datetimes(), st.integers(0, 6))
def test_times_come_back_as_they_were_written(moment: datetime, digits: int) -> None:
    aware = moment.replace(tzinfo=UTC)
    written = generalized_time(aware, digits)
    kept = aware.microsecond // 10 ** (6 - digits) * 10 ** (6 - digits)
    assert read_time(der.read_tlv(written, der.GENERALIZED_TIME).content) == aware.replace(microsecond=kept)
    assert b".0Z" not in written
    assert not written.rstrip(b"Z").endswith(b".")
