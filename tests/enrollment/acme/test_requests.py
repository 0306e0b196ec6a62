"""What every request has to be before anybody looks at what it says."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text
from tests.enrollment.acme.conftest import DIRECTORY, ROOT, House, Validations, problem, serving
from tests.support.acme_client import JOSE, AcmeClient, as_json, jws, new_key

from intaglio.db.engine import Database


async def test_the_directory_names_every_resource(house: House) -> None:
    await house.endpoint(options={"terms_of_service": "https://ca.example/terms", "website": "https://ca.example"})
    answer = await house.http.get(DIRECTORY)
    document = answer.json()
    meta = document.pop("meta")
    assert set(document) == {
        *("newNonce", "newAccount", "newOrder", "newAuthz", "revokeCert", "keyChange", "renewalInfo"),
    }
    assert all(url.startswith(f"{ROOT}/") for url in document.values())
    assert meta["termsOfService"] == "https://ca.example/terms"
    assert meta["website"] == "https://ca.example/"
    assert meta["externalAccountRequired"] is False
    assert meta["profiles"] == {"privatessl-tls-server": "Private TLS server"}


async def test_a_nonce_is_given_by_head_and_by_get(house: House) -> None:
    client = await (await house.endpoint() and house.stranger())
    for method, status in (("HEAD", 200), ("GET", 204)):
        answer = await house.http.request(method, client.directory["newNonce"])
        assert answer.status_code == status
        assert answer.headers["replay-nonce"]
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["link"] == f'<{DIRECTORY}>;rel="index"'


async def test_every_answer_to_a_post_brings_a_new_nonce(house: House) -> None:
    await house.endpoint()
    client = await house.client()
    for answer in (await client.order("www.example.com"), await client.order("not a name")):
        assert answer.headers["replay-nonce"]
        assert f'<{DIRECTORY}>;rel="index"' in answer.headers.get_list("link")


async def test_a_nonce_counts_once(house: House) -> None:
    await house.endpoint()
    client = await house.client()
    nonce = await client.fresh_nonce()
    assert (await client.post(client.directory["newOrder"], {}, nonce=nonce)).status_code == 400
    document = problem(await client.post(client.directory["newOrder"], {}, nonce=nonce), "badNonce", 400)
    assert "used" in document["detail"]


async def test_of_simultaneous_uses_of_one_nonce_one_counts(house: House) -> None:
    await house.endpoint()
    client = await house.client()
    nonce = await client.fresh_nonce()
    url = client.directory["newOrder"]
    bodies = [jws(client.key, {"url": url, "nonce": nonce, "kid": client.kid}, as_json({"try": n})) for n in range(8)]
    answers = await asyncio.gather(*(client.send(url, body) for body in bodies))
    kinds = sorted(answer.json()["type"].rpartition(":")[2] for answer in answers)
    assert kinds == ["badNonce"] * 7 + ["malformed"]


@pytest.mark.parametrize("nonce", ["", "x", "AAAA", "A" * 43, "=" * 8, "é"])
async def test_a_nonce_of_somebody_else_is_refused(house: House, nonce: str) -> None:
    await house.endpoint()
    client = await house.client()
    url = client.directory["newOrder"]
    body = jws(client.key, {"url": url, "nonce": nonce, "kid": client.kid}, b"{}")
    problem(await client.send(url, body), "badNonce", 400)
    assert (await client.order("www.example.com")).status_code == 201  # with the nonce of that answer


async def test_a_nonce_counts_at_every_process(house: House) -> None:
    await house.endpoint()
    client = await house.client()
    async with serving(house.enrollment, Validations()) as other:
        elsewhere = AcmeClient(other.http, DIRECTORY, client.key, client.kid, client.directory)
        nonce = await client.fresh_nonce()
        problem(await elsewhere.post(client.directory["newOrder"], {}, nonce=nonce), "malformed", 400)
        problem(await client.post(client.directory["newOrder"], {}, nonce=nonce), "badNonce", 400)


async def test_nonces_of_before_a_crash_of_the_database_are_no_good(house: House, database: Database) -> None:
    await house.endpoint()
    client = await house.client()
    nonce = await client.fresh_nonce()
    async with database.transaction() as tx:  # what PostgreSQL does with unlogged tables when it recovers
        await tx.execute(text("TRUNCATE acme_nonce, acme_nonce_key"))
    problem(await client.post(client.directory["newOrder"], {}, nonce=nonce), "badNonce", 400)
    assert (await client.order("www.example.com")).status_code == 201


async def test_a_request_signed_for_another_url_is_refused(house: House) -> None:
    await house.endpoint()
    client = await house.client()
    url = client.directory["newOrder"]
    for wrong in (f"{url}/", url.replace("https", "http"), url.replace("acme.example", "other.example"), None, 5):
        header = {"url": wrong, "nonce": await client.fresh_nonce(), "kid": client.kid}
        answer = await client.send(url, jws(client.key, {k: v for k, v in header.items() if v is not None}, b"{}"))
        assert answer.status_code in (400, 403)
        assert answer.json()["type"].endswith(("unauthorized", "malformed"))


async def test_a_request_signed_by_another_key_is_refused(house: House) -> None:
    await house.endpoint()
    client = await house.client()
    problem(await client.post(client.directory["newOrder"], {}, key=new_key()), "unauthorized", 403)


async def test_an_account_is_unknown_at_another_endpoint(house: House) -> None:
    await house.endpoint()
    await house.endpoint(profile="privatessl-tls-client", name="clients")
    client = await house.client()
    other = await house.stranger(DIRECTORY.replace("tls-server", "tls-client"), key=client.key)
    other.kid = client.kid
    problem(await other.post(other.directory["newOrder"], {}), "accountDoesNotExist", 400)
    assert client.kid is not None
    other.kid = client.kid.replace("tls-server", "tls-client")
    problem(await other.post(other.directory["newOrder"], {}), "accountDoesNotExist", 400)
    # Its orders are unknown there, too.
    order = (await client.order("www.example.com")).headers["location"]
    await other.register()
    problem(await other.post(order.replace("tls-server", "tls-client")), "malformed", 404)


@pytest.mark.parametrize("kid", ["", "x", f"{ROOT}/account/", f"{ROOT}/account/1", "https://e/acme/a/b/c/account/1"])
async def test_a_kid_that_is_no_account_is_refused(house: House, kid: str) -> None:
    await house.endpoint()
    client = await house.client()
    client.kid = kid
    problem(await client.post(client.directory["newOrder"], {}), "accountDoesNotExist", 400)


async def test_a_body_of_another_media_type_is_refused(house: House) -> None:
    await house.endpoint()
    client = await house.client()
    for kind in ("application/json", "application/jose", "", "text/plain"):
        headers = {"content-type": kind} if kind else {}
        answer = await house.http.post(client.directory["newOrder"], content=b"{}", headers=headers)
        problem(answer, "malformed", 415)
    answer = await house.http.post(
        client.directory["newOrder"], content=b"{}", headers={"content-type": "application/jose+json; charset=utf-8"}
    )
    problem(answer, "malformed", 400)


async def test_a_body_that_is_too_long_is_refused(house: House) -> None:
    await house.endpoint()
    client = await house.client()
    answer = await house.http.post(client.directory["newOrder"], content=b" " * 200_000, headers=JOSE)
    problem(answer, "malformed", 413)


async def test_a_resource_is_asked_by_its_method(house: House) -> None:
    await house.endpoint()
    client = await house.client()
    answer = await house.http.get(client.directory["newOrder"])
    problem(answer, "malformed", 405)
    assert answer.headers["allow"] == "POST"
    problem(await house.http.post(client.directory["newNonce"], headers=JOSE), "malformed", 405)


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/acme/main/demo~issuing/privatessl-tls-unknown/directory", "privatessl-tls-unknown"),
        ("/acme/main/demo~other/privatessl-tls-server/directory", "demo~other"),
        ("/acme/MAIN/demo~issuing/privatessl-tls-server/directory", "MAIN"),
        ("/acme/main/demo~issuing/privatessl-tls-server/elsewhere", "no such resource"),
        ("/acme/directory", "/acme/TENANT"),
    ],
)
async def test_a_url_that_is_none_is_explained(house: House, path: str, names: str) -> None:
    await house.endpoint()
    assert names in problem(await house.http.get(path), "malformed", 404)["detail"]


async def test_a_profile_may_be_written_with_underscores(house: House) -> None:
    await house.endpoint()
    answer = await house.http.get(DIRECTORY.replace("privatessl-tls-server", "privatessl_tls_server"))
    assert answer.json()["newOrder"] == f"{ROOT}/new-order"


async def test_an_endpoint_that_is_switched_off_is_not_there(house: House) -> None:
    made = await house.endpoint()
    client = await house.client()
    await house.change(made, enabled=False)
    problem(await house.http.get(DIRECTORY), "malformed", 404)
    problem(await client.order("www.example.com"), "malformed", 404)


async def test_requests_from_elsewhere_are_refused(house: House) -> None:
    await house.endpoint(networks=["192.0.2.0/24"])
    problem(await house.http.get(DIRECTORY), "unauthorized", 403)


async def test_key_or_account_signs_as_the_resource_wants(house: House) -> None:
    await house.endpoint()
    client = await house.client()
    problem(await client.post(client.directory["newOrder"], {}, with_jwk=True), "malformed", 400)
    problem(await client.post(client.directory["newAccount"], {}), "malformed", 400)


async def test_refusals_are_in_the_audit_trail(house: House, database: Database) -> None:
    await house.endpoint()
    client = await house.client()
    await client.post(client.directory["newOrder"], {}, key=new_key())
    assert house.enrollment.refusals is not None
    await house.enrollment.refusals.flush()
    async with database.read() as view:
        found = await view.all(text("SELECT action, detail FROM audit_record WHERE outcome = 'refused'"))
    assert [(row["action"], row["detail"]["code"]) for row in found] == [("acme.new-order", "acme-unauthorized")]
