"""Octets from outside: answers of a server, keys of a token issuer, requests. Read, or refused; never worse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.core.errors import InvalidInput, Unavailable
from intaglio.mtls.automation import issuer_keys, sign_api
from intaglio.mtls.automation.agent import asking
from intaglio.mtls.automation.agent.options import Options
from intaglio.mtls.automation.issuer_keys import Issuer

_KEY = asking.new_key()
_OPTIONS = Options("https://pki.example:1443", Path("/nowhere"))
_NAMES = st.sampled_from(["certificate", "chain", "bundle", "identity", "csr", "kty", "crv", "x", "n", "e", "keys"])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.sampled_from(["RSA", "EC", "P-256", "AQAB"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=6),
    max_leaves=8,
)
_BODIES = st.binary(max_size=200) | _VALUES.map(lambda value: json.dumps(value).encode())


@given(_BODIES)
def test_an_answer_that_is_no_certificate_is_refused(content: bytes) -> None:
    with pytest.raises(Unavailable) as refused:
        asking._checked(_OPTIONS, _KEY, content, None)
    assert refused.value.code == "answer-unreadable"


@given(st.dictionaries(_NAMES | st.sampled_from(["use", "alg", "kid", "key_ops", "d", "k"]), _VALUES, max_size=8))
def test_a_key_set_gives_keys_or_nothing(member: dict[str, Any]) -> None:
    issuer_keys._key(member)
    issuer_keys._key({**member, "kty": "EC", "crv": "P-256"})
    with pytest.raises(Unavailable):
        issuer_keys._keys(Issuer("https://x.example"), {"keys": member})


@given(_BODIES)
def test_a_sign_request_is_read_or_refused(content: bytes) -> None:
    try:
        found = sign_api._read_json(content)
    except InvalidInput:
        return
    assert isinstance(found.csr, str)


@given(st.text(max_size=60))
def test_what_is_an_https_url_is_nothing_else(text: str) -> None:
    try:
        assert issuer_keys.https_url(text, target="issuer").startswith("https://")
    except InvalidInput:
        return
