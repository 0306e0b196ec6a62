"""From an order to a certificate."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from sqlalchemy import text
from tests.enrollment.acme.conftest import DIRECTORY, House, problem
from tests.support.acme_client import certificate_request, encoded
from tests.support.authority import OPERATOR, openssl

from intaglio.authority.cas.edit import edit_ca
from intaglio.authority.cas.values import CaChanges
from intaglio.core import clock
from intaglio.core.clock import rfc3339
from intaglio.db.engine import Database
from intaglio.db.listing import ListQuery
from intaglio.enrollment import request_administration
from intaglio.enrollment.acme import upkeep
from intaglio.enrollment.acme.validation import ValidationFailed


def leaf(chain: str) -> x509.Certificate:
    return x509.load_pem_x509_certificates(chain.encode())[0]


async def test_an_order_leads_to_a_certificate_for_exactly_its_names(house: House) -> None:
    await house.endpoint()
    client = await house.client(contact=["mailto:admin@example.com"])
    order, chain = await house.certificate(client, "www.example.com", "*.example.com")
    names = leaf(chain).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["www.example.com", "*.example.com"]
    assert leaf(chain).subject.rfc4514_string() == "CN=www.example.com"
    assert order["identifiers"] == [
        {"type": "dns", "value": "www.example.com"},
        {"type": "dns", "value": "*.example.com"},
    ]


async def test_an_address_is_certified(house: House) -> None:
    await house.endpoint()
    _, chain = await house.certificate(await house.client(), addresses=["192.0.2.1", "2001:db8::1"])
    names = leaf(chain).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(each) for each in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.1", "2001:db8::1"]
    assert {target.kind for target in house.validations.seen} == {"ip"}


async def test_an_order_shows_how_far_it_is(house: House) -> None:
    await house.endpoint()
    client = await house.client()
    answer = await client.order("www.example.com")
    order, url = answer.json(), answer.headers["location"]
    assert order["status"] == "pending"
    authorization = (await client.post(order["authorizations"][0])).json()
    assert authorization["identifier"] == {"type": "dns", "value": "www.example.com"}
    assert {each["type"] for each in authorization["challenges"]} == {"http-01", "dns-01", "tls-alpn-01"}
    assert {each["status"] for each in authorization["challenges"]} == {"pending"}
    house.validations.endless.add("www.example.com")
    await client.answer_challenges(order, "dns-01")
    under_way = await client.post(order["authorizations"][0])
    assert under_way.headers["retry-after"]
    assert {each["type"]: each["status"] for each in under_way.json()["challenges"]} == {
        "http-01": "pending", "dns-01": "processing", "tls-alpn-01": "pending",
    }  # fmt: skip
    house.validations.endless.clear()
    authorization = await house.reached(client, order["authorizations"][0], "valid")
    (proven,) = authorization["challenges"]
    assert (proven["type"], proven["status"]) == ("dns-01", "valid")
    assert proven["validated"]
    ready = (await client.post(url)).json()
    assert ready["status"] == "ready"
    done = (await client.finalize(ready, certificate_request(["www.example.com"]))).json()
    assert done["status"] == "valid"
    problem(await client.finalize(ready, certificate_request(["www.example.com"])), "orderNotReady", 403)


async def test_an_order_is_finalized_when_it_is_ready(house: House) -> None:
    await house.endpoint()
    client = await house.client()
    order = (await client.order("www.example.com")).json()
    problem(await client.finalize(order, certificate_request(["www.example.com"])), "orderNotReady", 403)


async def test_a_wildcard_is_proven_over_the_dns_alone(house: House) -> None:
    await house.endpoint()
    client = await house.client()
    order = (await client.order("*.example.com")).json()
    authorization = (await client.post(order["authorizations"][0])).json()
    assert authorization["identifier"] == {"type": "dns", "value": "example.com"}
    assert authorization["wildcard"] is True
    assert [each["type"] for each in authorization["challenges"]] == ["dns-01"]


async def test_a_failed_challenge_ends_authorization_and_order(house: House) -> None:
    await house.endpoint()
    client = await house.client()
    house.validations.failing["www.example.com"] = ValidationFailed("incorrectResponse", "It said something else.")
    answer = await client.order("www.example.com", "good.example.com")
    order = answer.json()
    await client.answer_challenges(order)
    found = await house.reached(client, answer.headers["location"], "invalid")
    assert found["error"]["type"] == "urn:ietf:params:acme:error:incorrectResponse"
    assert found["error"]["identifier"] == {"type": "dns", "value": "www.example.com"}
    authorization = (await client.post(order["authorizations"][0])).json()
    (failed,) = authorization["challenges"]
    assert (authorization["status"], failed["status"]) == ("invalid", "invalid")
    assert failed["error"]["detail"].startswith("It said something else.")
    problem(await client.finalize(order, certificate_request(["www.example.com"])), "orderNotReady", 403)


async def test_a_challenge_is_taken_up_once(house: House) -> None:
    await house.endpoint()
    client = await house.client()
    house.validations.endless.add("www.example.com")
    order = (await client.order("www.example.com")).json()
    challenges = (await client.post(order["authorizations"][0])).json()["challenges"]
    by_type = {each["type"]: each["url"] for each in challenges}
    for _ in range(3):
        assert (await client.post(by_type["http-01"], {})).json()["status"] == "processing"
    problem(await client.post(by_type["dns-01"], {}), "malformed", 400)
    assert (await client.post(by_type["dns-01"])).json()["status"] == "pending"  # looking is allowed
    house.validations.endless.clear()
    await house.reached(client, order["authorizations"][0], "valid")
    assert len(house.validations.seen) == 1
    assert (await client.post(by_type["http-01"], {})).json()["status"] == "valid"


async def test_a_proof_counts_for_further_orders(house: House) -> None:
    await house.endpoint()
    client = await house.client()
    await house.certificate(client, "www.example.com")
    answer = await client.order("www.example.com")
    assert answer.json()["status"] == "ready"
    assert len(house.validations.seen) == 1
    other = await house.client()
    assert (await other.order("www.example.com")).json()["status"] == "pending"


async def test_a_proof_that_was_given_up_does_not_count(house: House) -> None:
    await house.endpoint()
    client = await house.client()
    order = await house.ready_order(client, "www.example.com")
    given_up = await client.post(order["authorizations"][0], {"status": "deactivated"})
    assert given_up.json()["status"] == "deactivated"
    assert (await client.post(order["url"])).json()["status"] == "invalid"
    problem(await client.finalize(order, certificate_request(["www.example.com"])), "orderNotReady", 403)
    assert (await client.order("www.example.com")).json()["status"] == "pending"
    problem(await client.post(order["authorizations"][0], {"status": "deactivated"}), "malformed", 400)
    problem(await client.post(order["authorizations"][0], {"status": "valid"}), "malformed", 400)


async def test_names_are_authorized_before_they_are_ordered(house: House) -> None:
    made = await house.endpoint()
    client = await house.client()
    url = client.directory["newAuthz"]
    answer = await client.post(url, {"identifier": {"type": "dns", "value": "www.example.com"}})
    assert answer.status_code == 201
    authorization = answer.headers["location"]
    await client.answer_challenges({"authorizations": [authorization]})
    await house.reached(client, authorization, "valid")
    assert (await client.order("www.example.com")).json()["status"] == "ready"
    again = await client.post(url, {"identifier": {"type": "dns", "value": "www.example.com"}})
    assert (again.status_code, again.headers["location"]) == (200, authorization)
    wildcard = {"identifier": {"type": "dns", "value": "*.example.com"}}
    problem(await client.post(url, wildcard), "rejectedIdentifier", 403)
    await house.change(made, options={"pre_authorization": False})
    assert "newAuthz" not in (await house.http.get(DIRECTORY)).json()


BAD_IDENTIFIERS: dict[str, tuple[Any, str]] = {
    "none": ([], "malformed"),
    "no list": ("www.example.com", "malformed"),
    "no objects": (["www.example.com"], "malformed"),
    "of another type": ([{"type": "email", "value": "a@example.com"}], "unsupportedIdentifier"),
    "an empty name": ([{"type": "dns", "value": ""}], "malformed"),
    "an address as a name": ([{"type": "dns", "value": "192.0.2.1"}], "malformed"),
    "a name as an address": ([{"type": "ip", "value": "www.example.com"}], "malformed"),
    "a mapped address": ([{"type": "ip", "value": "::ffff:192.0.2.1"}], "malformed"),
    "an address in a long spelling": ([{"type": "ip", "value": "2001:0db8::1"}], "malformed"),
    "a scoped address": ([{"type": "ip", "value": "fe80::1%eth0"}], "malformed"),
    "not in A-labels": ([{"type": "dns", "value": "bücher.example"}], "malformed"),
    "an underscore": ([{"type": "dns", "value": "_x.example.com"}], "malformed"),
    "a trailing dot": ([{"type": "dns", "value": "www.example.com."}], "malformed"),
    "a wildcard in the middle": ([{"type": "dns", "value": "www.*.com"}], "malformed"),
    "two wildcards": ([{"type": "dns", "value": "*.*.com"}], "malformed"),
    "a partial wildcard": ([{"type": "dns", "value": "w*.example.com"}], "malformed"),
    "a long label": ([{"type": "dns", "value": "a" * 64 + ".example"}], "malformed"),
    "a long name": ([{"type": "dns", "value": "a." * 150 + "example"}], "malformed"),
    "NUL": ([{"type": "dns", "value": "www.example.com\0.evil"}], "malformed"),
    "a number": ([{"type": "dns", "value": 5}], "malformed"),
    "too many": ([{"type": "dns", "value": f"w{n}.example.com"} for n in range(101)], "rejectedIdentifier"),
}


@pytest.mark.parametrize(("identifiers", "kind"), BAD_IDENTIFIERS.values(), ids=BAD_IDENTIFIERS)
async def test_what_is_no_identifier_is_refused(house: House, identifiers: Any, kind: str) -> None:
    await house.endpoint()
    client = await house.client()
    answer = await client.post(client.directory["newOrder"], {"identifiers": identifiers})
    problem(answer, kind, 403 if kind == "rejectedIdentifier" else 400)


async def test_every_name_that_is_not_certified_is_named(house: House) -> None:
    allowed, denied = ["example.com", "*.plant.example"], ["no.example.com"]
    await house.endpoint(options={"allowed_domains": allowed, "denied_domains": denied})
    client = await house.client()
    assert (await client.order("example.com", "a.b.example.com", "x.plant.example")).status_code == 201
    document = problem(
        await client.order("example.com", "no.example.com", "x.no.example.com", "plant.example", "badexample.com"),
        "rejectedIdentifier",
        403,
    )
    assert [each["identifier"]["value"] for each in document["subproblems"]] == [
        *("no.example.com", "x.no.example.com", "plant.example", "badexample.com"),
    ]


async def test_wildcards_and_addresses_can_be_switched_off_and_limited(house: House) -> None:
    made = await house.endpoint(options={"allowed_networks": ["192.0.2.0/24"], "denied_networks": ["192.0.2.7"]})
    client = await house.client()
    assert (await client.order(addresses=["192.0.2.1"])).status_code == 201
    problem(await client.order(addresses=["198.51.100.1"]), "rejectedIdentifier", 403)
    problem(await client.order(addresses=["192.0.2.7"]), "rejectedIdentifier", 403)
    await house.change(made, options={"wildcards": False, "ip_addresses": False})
    problem(await client.order("*.example.com"), "rejectedIdentifier", 403)
    problem(await client.order(addresses=["192.0.2.1"]), "rejectedIdentifier", 403)


async def test_names_are_compared_without_case_and_counted_once(house: House) -> None:
    await house.endpoint()
    client = await house.client()
    order = (await client.order("WWW.Example.com", "www.example.COM")).json()
    assert order["identifiers"] == [{"type": "dns", "value": "www.example.com"}]
    await client.answer_challenges(order)
    await house.reached(client, order["authorizations"][0], "valid")
    done = await client.finalize(order, certificate_request(["Www.example.com"], common_name="WWW.EXAMPLE.COM"))
    assert done.json()["status"] == "valid", done.text


async def test_a_request_for_other_names_is_refused_and_the_order_stays_ready(house: House) -> None:
    await house.endpoint()
    client = await house.client()
    order = await house.ready_order(client, "www.example.com", "example.com")
    for request, named in (
        (certificate_request(["www.example.com"]), "example.com"),
        (certificate_request(["www.example.com", "example.com", "evil.example"]), "evil.example"),
        (certificate_request(["www.example.com", "example.com"], common_name="evil.example"), "evil.example"),
        (certificate_request(["www.example.com", "example.com"], addresses=["192.0.2.1"]), "192.0.2.1"),
        (certificate_request(["www.example.com", "example.com"], extra=[x509.RFC822Name("a@example.com")]), "rfc822"),
        (certificate_request([]), "lacks"),
    ):
        assert named in problem(await client.finalize(order, request), "badCSR", 400)["detail"]
    done = await client.finalize(order, certificate_request(["example.com", "www.example.com"]))
    assert done.json()["status"] == "valid"


async def test_a_common_name_alone_is_enough(house: House) -> None:
    await house.endpoint()
    client = await house.client()
    order = await house.ready_order(client, "www.example.com")
    done = (await client.finalize(order, certificate_request([], common_name="www.example.com"))).json()
    certificate = leaf((await client.post(done["certificate"])).text)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["www.example.com"]


async def test_of_the_subject_only_the_common_name_is_certified(house: House) -> None:
    await house.endpoint()
    client = await house.client()
    order = await house.ready_order(client, "www.example.com", "example.com")
    subject = [(NameOID.ORGANIZATION_NAME, "A bank"), (NameOID.COUNTRY_NAME, "CH")]
    request = certificate_request(["www.example.com", "example.com"], common_name="example.com", subject=subject)
    done = (await client.finalize(order, request)).json()
    assert leaf((await client.post(done["certificate"])).text).subject.rfc4514_string() == "CN=example.com"


async def test_a_request_without_subject_gets_the_first_name_that_fits(house: House) -> None:
    made = await house.endpoint()
    client = await house.client()
    long = "a" * 60 + ".example.com"
    _, chain = await house.certificate(client, long, "b.example.com")
    assert leaf(chain).subject.rfc4514_string() == "CN=b.example.com"
    await house.change(made, options={"subject": "empty"})
    _, chain = await house.certificate(client, "c.example.com")
    assert leaf(chain).subject.rfc4514_string() == ""
    assert leaf(chain).extensions.get_extension_for_class(x509.SubjectAlternativeName).critical


@pytest.mark.parametrize(
    "key",
    [
        *(rsa.generate_private_key(65537, bits) for bits in (2048, 3072)),
        *(ec.generate_private_key(curve) for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())),
    ],
    ids=["rsa-2048", "rsa-3072", "p-256", "p-384", "p-521"],
)
async def test_usual_keys_are_certified(house: House, key: Any) -> None:
    await house.endpoint()
    client = await house.client()
    order = await house.ready_order(client, "www.example.com")
    done = await client.finalize(order, certificate_request(["www.example.com"], key=key))
    assert done.json()["status"] == "valid", done.text


async def test_other_keys_and_requests_are_refused(house: House) -> None:
    await house.endpoint()
    client = await house.client()
    order = await house.ready_order(client, "www.example.com")
    names = ["www.example.com"]
    good = certificate_request(names)
    for request in (
        certificate_request(names, key=rsa.generate_private_key(65537, 1024)),
        certificate_request(names, key=rsa.generate_private_key(3, 2048)),
        certificate_request(names, key=ec.generate_private_key(ec.SECP256K1())),
        certificate_request(names, key=ed25519.Ed25519PrivateKey.generate()),
        certificate_request(names, key=client.key),
        good[:-1] + bytes([good[-1] ^ 1]),
        b"\x30\x00",
        b"",
    ):
        problem(await client.finalize(order, request), "badCSR", 400)
    problem(await client.post(order["finalize"], {"csr": "x="}), "malformed", 400)
    problem(await client.post(order["finalize"], {}), "malformed", 400)
    problem(await client.post(order["finalize"]), "malformed", 400)


async def test_what_the_ca_refuses_is_a_matter_of_the_request(house: House) -> None:
    await house.endpoint()
    client = await house.client()
    order = await house.ready_order(client, "www.example.com")
    sizes = {"action": "block", "rsa": 3072, "ecc": 256}
    authority = house.enrollment.authority
    await edit_ca(authority, OPERATOR, "demo~issuing", CaChanges(options={"minimum_keysize": sizes}))
    small = certificate_request(["www.example.com"], key=rsa.generate_private_key(65537, 2048))
    problem(await client.finalize(order, small), "badCSR", 400)
    assert (await client.post(order["url"])).json()["status"] == "ready"
    assert (await client.finalize(order, certificate_request(["www.example.com"]))).json()["status"] == "valid"


async def test_the_key_of_another_account_is_not_certified(house: House) -> None:
    await house.endpoint()
    client, other = await house.client(), await house.client()
    order = await house.ready_order(client, "www.example.com")
    request = certificate_request(["www.example.com"], key=other.key)
    problem(await client.finalize(order, request), "badCSR", 400)


async def test_a_chain_leads_to_the_root_and_its_alternate_contains_it(house: House, tmp_path: Any) -> None:
    made = await house.endpoint()
    client = await house.client()
    order, chain = await house.certificate(client, "www.example.com")
    certificates = x509.load_pem_x509_certificates(chain.encode())
    answer = await client.post(order["certificate"])
    assert answer.headers["content-type"] == "application/pem-certificate-chain"
    (alternate,) = [link for link in answer.headers.get_list("link") if 'rel="alternate"' in link]
    whole = (await client.post(alternate[1:].partition(">")[0])).text
    root = x509.load_pem_x509_certificates(whole.encode())[-1]
    assert root.subject == root.issuer
    assert len(certificates) == len(x509.load_pem_x509_certificates(whole.encode())) - 1
    (tmp_path / "chain.pem").write_text(whole)
    openssl("verify", "-x509_strict", "-CAfile", tmp_path / "chain.pem", tmp_path / "chain.pem")
    problem(await client.post(order["certificate"] + "/2"), "malformed", 404)
    await house.change(made, options={"chain_with_root": True})
    assert (await client.post(order["certificate"])).text == whole


async def test_a_certificate_is_handed_to_its_account_alone(house: House) -> None:
    await house.endpoint()
    client, other = await house.client(), await house.client()
    order, _ = await house.certificate(client, "www.example.com")
    for url in (order["certificate"], order["url"], order["finalize"], order["authorizations"][0]):
        payload = {"csr": encoded(certificate_request(["www.example.com"]))} if url == order["finalize"] else None
        problem(await other.post(url, payload), "malformed", 404)


async def test_dates_of_an_order_shorten_the_validity(house: House) -> None:
    made = await house.endpoint()
    client = await house.client()
    end = clock.now().replace(microsecond=0) + timedelta(days=10)
    order, chain = await house.certificate(client, "www.example.com", notAfter=rfc3339(end))
    assert order["notAfter"] == rfc3339(end)
    assert leaf(chain).not_valid_after_utc == end
    late = clock.now() + timedelta(days=4000)
    for wish in (
        {"notAfter": rfc3339(late)},
        {"notAfter": "2020-01-01T00:00:00Z"},
        {"notBefore": "2020-01-01T00:00:00Z"},
        {"notBefore": rfc3339(late)},
        {"notBefore": rfc3339(end), "notAfter": rfc3339(end)},
        {"notAfter": "tomorrow"},
        {"notAfter": 5},
    ):
        problem(await client.order("www.example.com", **wish), "malformed", 400)
    await house.change(made, options={"requested_dates": False})
    problem(await client.order("www.example.com", notAfter=rfc3339(end)), "malformed", 400)


async def test_an_order_chooses_among_the_profiles(house: House) -> None:
    await house.endpoint(options={"profiles": ["privatessl-tls-client"]})
    client = await house.client()
    meta = (await house.http.get(DIRECTORY)).json()["meta"]
    assert set(meta["profiles"]) == {"privatessl-tls-server", "privatessl-tls-client"}
    _, chain = await house.certificate(client, "www.example.com", profile="privatessl-tls-client")
    usages = leaf(chain).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [usage.dotted_string for usage in usages] == ["1.3.6.1.5.5.7.3.2"]
    problem(await client.order("www.example.com", profile="basic-ca-root"), "invalidProfile", 400)
    problem(await client.order("www.example.com", profile=5), "invalidProfile", 400)


async def test_orders_and_proofs_expire(house: House) -> None:
    await house.endpoint(options={"order_lifetime": "pt1h0.5s", "authorization_lifetime": "PT2H"})
    client = await house.client()
    waiting = await client.order("slow.example.com")
    ready = await house.ready_order(client, "www.example.com")
    with clock.frozen(clock.now() + timedelta(minutes=61)):
        client.nonce = None
        found = (await client.post(waiting.headers["location"])).json()
        assert (found["status"], found["error"]["type"].rpartition(":")[2]) == ("invalid", "malformed")
        assert (await client.post(found["authorizations"][0])).json()["status"] == "invalid"
        assert (await client.post(ready["url"])).json()["status"] == "invalid"
        assert (await client.post(ready["authorizations"][0])).json()["status"] == "valid"
        assert (await client.order("www.example.com")).json()["status"] == "ready"
        problem(await client.finalize(ready, certificate_request(["www.example.com"])), "orderNotReady", 403)
    with clock.frozen(clock.now() + timedelta(minutes=125)):
        client.nonce = None
        assert (await client.post(ready["authorizations"][0])).json()["status"] == "expired"
        assert (await client.order("www.example.com")).json()["status"] == "pending"


async def test_what_expired_is_deleted_and_nothing_else(house: House, database: Database) -> None:
    lifetimes = {"order_lifetime": "PT1H", "authorization_lifetime": "PT2H", "kept_after_expiry": "PT30M"}
    await house.endpoint(options=lifetimes)
    client = await house.client()
    await client.order("slow.example.com")
    await house.ready_order(client, "www.example.com")

    async def rows() -> dict[str, int]:
        async with database.read() as view:
            tables = ("acme_order", "acme_authorization", "acme_nonce")
            return {name: int(await view.scalar(text(f"SELECT count(*) FROM {name}"))) for name in tables}

    before = await rows()
    await upkeep.clean(house.enrollment)
    assert await rows() == before
    with clock.frozen(clock.now() + timedelta(minutes=95)):
        await upkeep.clean(house.enrollment)
        assert await rows() == {"acme_order": 0, "acme_authorization": 1, "acme_nonce": 0}
    with clock.frozen(clock.now() + timedelta(minutes=155)):
        await upkeep.clean(house.enrollment)
        assert await rows() == {"acme_order": 0, "acme_authorization": 0, "acme_nonce": 0}


async def test_orders_are_limited(house: House) -> None:
    await house.endpoint(options={"rates": {"orders_per_account": 2}})
    client = await house.client()
    for _ in range(2):
        assert (await client.order("www.example.com")).status_code == 201
    answer = await client.order("www.example.com")
    problem(answer, "rateLimited", 429)
    assert 0 < int(answer.headers["retry-after"]) <= 3 * 3600


async def test_orders_for_one_domain_are_limited(house: House) -> None:
    await house.endpoint(options={"rates": {"certificates_per_domain": 2}})
    one, other = await house.client(), await house.client()
    assert (await one.order("a.example.com", "b.example.com")).status_code == 201
    assert (await other.order("c.example.com")).status_code == 201
    problem(await one.order("d.example.com"), "rateLimited", 429)
    assert (await one.order("d.example.net")).status_code == 201


async def test_authorizations_that_wait_are_limited(house: House) -> None:
    await house.endpoint(options={"rates": {"pending_authorizations": 3}})
    client = await house.client()
    order = (await client.order("a.example.com", "b.example.com")).json()
    answer = await client.order("c.example.com", "d.example.com")
    problem(answer, "rateLimited", 429)
    assert int(answer.headers["retry-after"]) > 0
    await client.post(order["authorizations"][0], {"status": "deactivated"})
    assert (await client.order("c.example.com", "d.example.com")).status_code == 201


async def test_failures_for_one_name_are_limited(house: House) -> None:
    await house.endpoint(options={"rates": {"failures_per_name": 2}})
    client = await house.client()
    house.validations.failing["www.example.com"] = ValidationFailed("connection", "Nobody answered.")
    for _ in range(2):
        answer = await client.order("www.example.com")
        await client.answer_challenges(answer.json())
        await house.reached(client, answer.headers["location"], "invalid")
    order = (await client.order("www.example.com")).json()
    challenge = (await client.post(order["authorizations"][0])).json()["challenges"][0]
    problem(await client.post(challenge["url"], {}), "rateLimited", 429)
    assert (await client.order("other.example.com")).status_code == 201


async def test_caa_records_are_looked_at_again_when_a_proof_is_old(house: House) -> None:
    await house.endpoint()
    client = await house.client()
    order = await house.ready_order(client, "www.example.com")
    house.validations.caa["www.example.com"] = ValidationFailed("caa", "Another CA is named.")
    with clock.frozen(clock.now() + timedelta(hours=9)):
        client.nonce = None
        answer = await client.finalize(order, certificate_request(["www.example.com"]))
        assert answer.json()["type"] == "urn:ietf:params:acme:error:caa", answer.text


async def test_an_order_waits_for_approval(house: House) -> None:
    await house.endpoint(approval="manual")
    client = await house.client()
    order = await house.ready_order(client, "www.example.com")
    answer = await client.finalize(order, certificate_request(["www.example.com"]))
    assert answer.json()["status"] == "processing"
    assert answer.headers["retry-after"] == "30"
    problem(await client.post(order["url"].replace("/order/", "/certificate/")), "orderNotReady", 403)
    await decide(house, approve=True)
    done = await later(house, client, order["url"], "valid")
    assert leaf((await client.post(done["certificate"])).text).subject.rfc4514_string() == "CN=www.example.com"


async def test_a_rejected_order_is_invalid_and_says_why(house: House) -> None:
    await house.endpoint(approval="manual")
    client = await house.client()
    order = await house.ready_order(client, "www.example.com")
    await client.finalize(order, certificate_request(["www.example.com"]))
    await decide(house, approve=False)
    found = await later(house, client, order["url"], "invalid")
    assert found["error"]["type"] == "urn:ietf:params:acme:error:unauthorized"
    assert "not this one" in found["error"]["detail"]


async def decide(house: House, *, approve: bool) -> None:
    (waiting,) = (await request_administration.list_requests(house.enrollment, OPERATOR, ListQuery())).items
    act = request_administration.approve_request if approve else request_administration.reject_request
    await act(house.enrollment, OPERATOR, waiting.request.id, "not this one")


async def later(house: House, client: Any, url: str, status: str) -> dict[str, Any]:
    """What the upkeep has made of an order when it looks again after a while."""
    with clock.frozen(clock.now() + timedelta(minutes=1)):
        client.nonce = None
        assert await upkeep.take_over(house.acme) == 1
        return await house.reached(client, url, status)
