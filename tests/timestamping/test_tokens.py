"""Tokens as OpenSSL sees them."""

from __future__ import annotations

from pathlib import Path

from tests.timestamping.conftest import POLICY, House, query, shown, verify


async def test_a_token_verifies_against_its_request_and_its_data(house: House, root_file: Path, tmp_path: Path) -> None:
    await house.issuer()
    reply = await house.reply(query(tmp_path))
    text = shown(tmp_path, reply)
    assert "Status: Granted." in text
    assert f"Policy OID: {POLICY}" in text
    assert "Verification: OK" in verify(tmp_path, reply, root_file)
    assert "Verification: OK" in verify(tmp_path, reply, root_file, "-data", tmp_path / "data.txt")
