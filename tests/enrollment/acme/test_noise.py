"""Whatever is signed and sent, the answer is a problem of the standard, never a failure of ours."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.enrollment.acme.conftest import House

from intaglio.core.errors import IntaglioError
from intaglio.enrollment.acme.errors import AcmeProblem
from intaglio.enrollment.acme.identifiers import read_identifiers
from intaglio.enrollment.acme.requests import names_in, read_csr

_SCALAR = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=30)
_NAMES = st.sampled_from(
    [
        *("contact", "termsOfServiceAgreed", "onlyReturnExisting", "externalAccountBinding", "status", "identifiers"),
        *("identifier", "type", "value", "notBefore", "notAfter", "replaces", "profile", "csr", "certificate"),
        *("reason", "protected", "payload", "signature", "account", "oldKey"),
    ]
)
_JSON = st.recursive(
    _SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=6), max_leaves=12
)
_OBJECTS = st.dictionaries(_NAMES, _JSON, max_size=8)


@given(_JSON)
def test_identifiers_are_read_or_refused(value: Any) -> None:
    try:
        found = read_identifiers(value, 100)
    except AcmeProblem:
        return
    assert found
    assert all(each.value == each.value.lower() for each in found)


@given(st.text(alphabet="abcdefghij0123456789.-*_:%[]ä\0 \n/@", max_size=40))
def test_what_is_accepted_as_a_name_is_one(text: str) -> None:
    for kind in ("dns", "ip"):
        try:
            (found,) = read_identifiers([{"type": kind, "value": text}], 1)
        except AcmeProblem:
            continue
        assert found.value == text.lower()
        assert not set(found.value) & set("_%[]ä\0 \n/@")


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda octets: octets.hex()))
def test_requests_for_certificates_are_read_or_refused(text: str) -> None:
    try:
        names_in(read_csr({"csr": text}))
    except IntaglioError:
        return


async def test_random_wishes_end_in_problems(house: House) -> None:
    await house.endpoint(options={"external_account": "optional", "rates": {"accounts_per_address": None}})
    client = await house.client()
    order = (await client.order("www.example.com")).json()
    challenge = (await client.post(order["authorizations"][0])).json()["challenges"][0]["url"]
    urls = [client.directory[name] for name in ("newAccount", "newOrder", "newAuthz", "revokeCert", "keyChange")]
    urls += [client.kid or "", f"{client.kid}/orders", order["finalize"], order["authorizations"][0], challenge]
    wishes: list[Any] = []

    @given(st.lists(_OBJECTS | _JSON, min_size=1, max_size=3))
    def gather(some: list[Any]) -> None:
        wishes.extend(some)

    gather()
    for number, wish in enumerate(wishes[:300]):
        url = urls[number % len(urls)]
        answer = await client.post(url, wish, with_jwk=url == client.directory["newAccount"])
        assert answer.status_code < 500, (url, wish, answer.text)
        if answer.status_code >= 400:
            assert answer.json()["type"].startswith("urn:ietf:params:acme:error:"), answer.text
            assert answer.json()["type"] != "urn:ietf:params:acme:error:serverInternal"
        if answer.status_code == 403 and "no longer" in answer.text:
            await client.register()
        await asyncio.sleep(0)
