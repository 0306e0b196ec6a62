"""Creating root and issuing CAs."""

from __future__ import annotations

from pathlib import Path

from tests.support.authority import OPERATOR, make_hierarchy, openssl, verify_chain

from intaglio.authority.cas.views import get_chain
from intaglio.authority.context import Authority


async def test_a_two_tier_hierarchy_verifies_with_openssl(
    authority: Authority, organization: str, tmp_path: Path
) -> None:
    await make_hierarchy(authority)
    chain = await get_chain(authority, OPERATOR, "demo~issuing")
    verify_chain(tmp_path, chain)
    text = openssl("x509", "-noout", "-text", "-inform", "der", stdin=chain[0])
    assert "CA:TRUE, pathlen:0" in text
    assert "http://pki.example/crl/demo/root/crl.crl" in text
