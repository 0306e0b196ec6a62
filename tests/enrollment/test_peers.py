"""Certificates that a proxy hands over, and those that somebody makes up."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.core.errors import InvalidInput
from intaglio.enrollment.peers import presented
from intaglio.enrollment.settings import EnrollmentSettings

PROXY = EnrollmentSettings(trusted_proxies=("10.0.0.0/8",), forwarded_certificates=True)


def scope(*headers: tuple[bytes, bytes], peer: str = "10.0.0.1", chain: tuple[bytes, ...] = ()) -> dict[str, Any]:
    return {"client": (peer, 1), "headers": headers, "extensions": {"tls": {"observed_chain_der": chain}}}


def item(octets: bytes) -> bytes:
    return b":" + base64.b64encode(octets) + b":"


def test_a_trusted_proxy_hands_over_what_its_client_showed() -> None:
    told = scope(
        (b"client-cert", item(b"leaf")), (b"client-cert-chain", item(b"one") + b", " + item(b"two")), chain=(b"proxy",)
    )
    assert presented(PROXY, told) == (b"leaf", b"one", b"two")
    assert presented(PROXY, scope(chain=(b"proxy",))) == ()  # its own certificate is not its client's


def test_nobody_else_is_believed() -> None:
    claimed = scope((b"client-cert", item(b"leaf")), peer="192.0.2.1", chain=(b"own",))
    assert presented(PROXY, claimed) == (b"own",)
    not_told = PROXY.model_copy(update={"forwarded_certificates": False})
    assert presented(not_told, scope((b"client-cert", item(b"leaf")), chain=(b"own",))) == (b"own",)


@pytest.mark.parametrize(
    "value",
    [b"", b"leaf", b"::", b":leaf", b":le!f:", b":bGVhZg==:, :bGVhZg==:", b":" + b"A" * 70_000 + b":"],
)
def test_a_header_that_is_none_is_refused(value: bytes) -> None:
    with pytest.raises(InvalidInput) as refusal:
        presented(PROXY, scope((b"client-cert", value)))
    assert refusal.value.code == "client-certificate-unreadable"


def test_two_headers_are_refused() -> None:
    with pytest.raises(InvalidInput):
        presented(PROXY, scope((b"client-cert", item(b"a")), (b"client-cert", item(b"b"))))


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_header_gives_certificates_or_a_refusal(leaf: bytes, chain: bytes) -> None:
    try:
        found = presented(PROXY, scope((b"client-cert", leaf), (b"client-cert-chain", chain)))
    except InvalidInput:
        return
    assert all(found)
