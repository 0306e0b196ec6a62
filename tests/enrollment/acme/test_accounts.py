"""Accounts: registered, found again, changed, bound to external ones, ended."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from tests.enrollment.acme.conftest import DIRECTORY, House, problem
from tests.support.acme_client import AcmeClient, Key, as_json, external_binding, jws, new_key, public_jwk
from tests.support.authority import OPERATOR

from intaglio.enrollment.credential_administration import NewCredential, create_credential
from intaglio.enrollment.values import Endpoint


async def test_a_key_is_registered_once(house: House) -> None:
    await house.endpoint()
    client = await house.stranger()
    made = await client.register(contact=["mailto:Admin@example.com"], termsOfServiceAgreed=True)
    assert made.status_code == 201
    assert made.json() == {
        "status": "valid",
        "contact": ["mailto:Admin@example.com"],
        "orders": f"{client.kid}/orders",
    }
    again = await client.register(contact=["mailto:other@example.com"])
    assert (again.status_code, again.headers["location"]) == (200, made.headers["location"])
    assert again.json()["contact"] == ["mailto:Admin@example.com"]


async def test_only_an_existing_account_can_be_asked_for(house: House) -> None:
    await house.endpoint()
    client = await house.stranger()
    problem(await client.register(onlyReturnExisting=True), "accountDoesNotExist", 400)
    await client.register()
    assert (await client.register(onlyReturnExisting=True)).status_code == 200


@pytest.mark.parametrize("key", [rsa.generate_private_key(65537, 2048), ed25519.Ed25519PrivateKey.generate()])
async def test_keys_of_other_types_have_accounts(house: House, key: Key) -> None:
    await house.endpoint()
    client = await house.client(key=key)
    assert (await client.order("www.example.com")).status_code == 201


@pytest.mark.parametrize(
    ("contact", "kind"),
    [
        (["tel:+431234"], "unsupportedContact"),
        (["admin@example.com"], "invalidContact"),
        (["mailto:admin@example.com?subject=x"], "invalidContact"),
        (["mailto:a@example.com,b@example.com"], "invalidContact"),
        (["mailto:nobody"], "invalidContact"),
        (["mailto:a@example.com"] * 11, "invalidContact"),
        ("mailto:a@example.com", "malformed"),
        ([5], "malformed"),
    ],
)
async def test_contacts_are_e_mail_addresses(house: House, contact: Any, kind: str) -> None:
    await house.endpoint()
    problem(await (await house.stranger()).register(contact=contact), kind, 400)


async def test_contacts_change(house: House) -> None:
    await house.endpoint()
    client = await house.client(contact=["mailto:a@example.com"])
    changed = await client.post(client.kid or "", {"contact": ["mailto:b@example.com"]})
    assert changed.json()["contact"] == ["mailto:b@example.com"]
    assert (await client.post(client.kid or "", {"status": "valid", "orders": "ignored"})).json() == changed.json()
    assert (await client.post(client.kid or "")).json() == changed.json()
    problem(await client.post(client.kid or "", {"status": "revoked"}), "malformed", 400)


async def test_an_ended_account_does_nothing_any_more(house: House) -> None:
    await house.endpoint()
    client = await house.client()
    ended = await client.post(client.kid or "", {"status": "deactivated"})
    assert ended.json()["status"] == "deactivated"
    problem(await client.order("www.example.com"), "unauthorized", 403)
    problem(await client.post(client.kid or "", {"status": "valid"}), "unauthorized", 403)
    problem(await client.register(), "unauthorized", 403)


async def test_an_account_is_shown_to_itself_alone(house: House) -> None:
    await house.endpoint()
    one, other = await house.client(), await house.client()
    problem(await one.post(other.kid or ""), "unauthorized", 403)
    problem(await one.post(f"{other.kid}/orders"), "unauthorized", 403)


async def roll_over(client: AcmeClient, new: Key, **changes: Any) -> Any:
    """keyChange, with what differs from a good request: ``url``, ``payload`` members, ``nonce``, ``key`` that signs."""
    url = client.directory["keyChange"]
    header = {"url": changes.pop("url", url), "jwk": public_jwk(new), **changes.pop("header", {})}
    payload = {"account": client.kid, "oldKey": public_jwk(client.key), **changes.pop("payload", {})}
    return await client.post(url, jws(changes.pop("key", new), header, as_json(payload)))


async def test_an_account_gets_another_key(house: House) -> None:
    await house.endpoint()
    client, new = await house.client(), new_key()
    old = client.key
    assert (await roll_over(client, new)).status_code == 200
    problem(await client.order("www.example.com"), "unauthorized", 403)
    client.key = new
    assert (await client.order("www.example.com")).status_code == 201
    assert (await client.register()).headers["location"] == client.kid
    client.key = old  # free again
    assert (await client.register()).status_code == 201


async def test_a_key_that_another_account_has_is_refused(house: House) -> None:
    await house.endpoint()
    one, other = await house.client(), await house.client()
    answer = await roll_over(one, other.key)
    problem(answer, "malformed", 409)
    assert answer.headers["location"] == other.kid


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"url": "https://acme.example/elsewhere"}, "malformed"),
        ({"payload": {"account": "https://acme.example/account/1"}}, "malformed"),
        ({"payload": {"oldKey": public_jwk(new_key())}}, "malformed"),
        ({"payload": {"oldKey": None}}, "malformed"),
        ({"header": {"nonce": "x"}}, "malformed"),
        ({"key": new_key()}, "unauthorized"),
    ],
)
async def test_a_change_of_key_is_signed_by_both(house: House, changes: dict[str, Any], kind: str) -> None:
    await house.endpoint()
    answer = await roll_over(await house.client(), new_key(), **changes)
    assert answer.json()["type"].endswith(kind), answer.text


async def test_orders_are_listed_page_by_page(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("intaglio.enrollment.acme.accounts._MOST_ORDERS", 2)
    await house.endpoint()
    client = await house.client()
    made = [(await client.order(f"w{n}.example.com")).headers["location"] for n in range(5)]
    found: list[str] = []
    url: str | None = f"{client.kid}/orders"
    while url is not None:
        page = await client.post(url)
        found += page.json()["orders"]
        links = [link for link in page.headers.get_list("link") if 'rel="next"' in link]
        url = links[0][1:].partition(">")[0] if links else None
    assert found == made[::-1]


async def test_terms_have_to_be_agreed_to_and_agreed_to_again_when_they_change(house: House) -> None:
    made = await house.endpoint(options={"terms_of_service": "https://ca.example/terms/1"})
    client = await house.stranger()
    refused = problem(await client.register(), "userActionRequired", 403)
    assert refused["instance"] == "https://ca.example/terms/1"
    assert (await client.register(termsOfServiceAgreed=True)).json()["termsOfServiceAgreed"] is True
    assert (await client.order("www.example.com")).status_code == 201
    await house.change(made, options={"terms_of_service": "https://ca.example/terms/2"})
    answer = await client.order("www.example.com")
    assert problem(answer, "userActionRequired", 403)["instance"] == "https://ca.example/terms/2"
    assert '<https://ca.example/terms/2>;rel="terms-of-service"' in answer.headers.get_list("link")
    await client.post(client.kid or "", {"termsOfServiceAgreed": True})
    assert (await client.order("www.example.com")).status_code == 201


async def external(house: House, endpoint: Endpoint, name: str, **wish: Any) -> bytes:
    """A credential that accounts can be bound to; its key."""
    made = await create_credential(
        house.enrollment, OPERATOR, endpoint.protocol, endpoint.name, NewCredential(kind="eab", name=name, **wish)
    )
    assert made.secret is not None
    return base64.urlsafe_b64decode(made.secret + "=" * (-len(made.secret) % 4))


def bound(client: AcmeClient, kid: str, secret: bytes, **more: Any) -> dict[str, Any]:
    url = more.pop("url", client.directory["newAccount"])
    return {"externalAccountBinding": external_binding(more.pop("key", client.key), kid, secret, url, **more)}


async def test_an_account_is_bound_to_an_external_one(house: House) -> None:
    made = await house.endpoint(options={"external_account": "required"})
    secret = await external(house, made, "host-7", uses=1)
    client = await house.stranger()
    assert (await house.http.get(DIRECTORY)).json()["meta"]["externalAccountRequired"] is True
    problem(await client.register(), "externalAccountRequired", 403)
    assert (await client.register(**bound(client, "host-7", secret))).status_code == 201
    other = await house.stranger()  # it was good for one account
    problem(await other.register(**bound(other, "host-7", secret)), "unauthorized", 403)


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
async def test_bindings_are_signed_with_hmac(house: House, algorithm: str) -> None:
    made = await house.endpoint(options={"external_account": "optional"})
    secret = await external(house, made, "host-7")
    client = await house.stranger()
    assert (await client.register(**bound(client, "host-7", secret, algorithm=algorithm))).status_code == 201


async def test_a_binding_of_another_request_is_refused(house: House) -> None:
    made = await house.endpoint(options={"external_account": "required"})
    secret = await external(house, made, "host-7")
    client = await house.stranger()
    for wish, kind in (
        (bound(client, "host-7", b"another secret of 32 octets....."), "unauthorized"),
        (bound(client, "host-8", secret), "unauthorized"),
        (bound(client, "host-7", secret, key=new_key()), "malformed"),
        (bound(client, "host-7", secret, url="https://acme.example/elsewhere"), "malformed"),
        ({"externalAccountBinding": "x"}, "malformed"),
        ({"externalAccountBinding": jws(client.key, {"kid": "host-7", "url": client.directory["newAccount"]},
                                        as_json(public_jwk(client.key)))}, "badSignatureAlgorithm"),
    ):  # fmt: skip
        answer = await client.register(**wish)
        assert answer.json()["type"].endswith(kind), answer.text


async def test_guessing_external_accounts_is_slowed_down(house: House) -> None:
    await house.endpoint(options={"external_account": "required"})
    client = await house.stranger()
    for _ in range(10):
        problem(await client.register(**bound(client, "guess", bytes(32))), "unauthorized", 403)
    answer = await client.register(**bound(client, "guess", bytes(32)))
    problem(answer, "rateLimited", 429)
    assert int(answer.headers["retry-after"]) > 0


async def test_an_external_account_limits_the_names(house: House) -> None:
    made = await house.endpoint(options={"external_account": "required"})
    sans = (("dns", "*.plant-7.example"), ("dns", "www.example.com"), ("ip", "192.0.2.7"))
    secret = await external(house, made, "host-7", bound={"sans": sans})
    client = await house.stranger()
    await client.register(**bound(client, "host-7", secret))
    assert (await client.order("www.example.com", "a.b.plant-7.example", "*.plant-7.example")).status_code == 201
    assert (await client.order(addresses=["192.0.2.7"])).status_code == 201
    problem(await client.order("example.com"), "rejectedIdentifier", 403)
    problem(await client.order("plant-7.example"), "rejectedIdentifier", 403)
    problem(await client.order(addresses=["192.0.2.8"]), "rejectedIdentifier", 403)


async def test_new_accounts_of_one_address_are_limited(house: House) -> None:
    await house.endpoint(options={"rates": {"accounts_per_address": 2}})
    for _ in range(2):
        await house.client()
    client = await house.stranger()
    answer = await client.register()
    problem(answer, "rateLimited", 429)
    assert 0 < int(answer.headers["retry-after"]) <= 3 * 3600
