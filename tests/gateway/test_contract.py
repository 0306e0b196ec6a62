"""The contract: documents, and JSON errors whatever is asked."""

from __future__ import annotations

import re
from typing import Any

import jsonschema_rs
import pytest
from tests.gateway.conftest import configure
from tests.gateway.support import CA_PATH, Client, wish

from intaglio import __version__
from intaglio.authority.context import Authority
from intaglio.core.errors import IntaglioError, StateConflict
from intaglio.gateway import openapi
from intaglio.gateway.api import ROUTES
from intaglio.gateway.errors import CATALOGUE, TRANSLATION, catalogue_entry

ISSUING = f"{CA_PATH}/demo~issuing"


async def test_the_entry_point_tells_the_version(integrator: Client) -> None:
    for path in ("/cagw/v1", "/cagw/v1/"):
        assert (await integrator.get(path)).json["version"] == __version__


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/cagw/v1/nope", 404, "cagw-4017"),
        ("GET", "/", 404, "cagw-4017"),
        ("GET", "//cagw//v1", 404, "cagw-4017"),
        ("GET", f"{ISSUING}/nope/nope/nope/nope", 404, "cagw-4017"),
        ("DELETE", CA_PATH, 405, "cagw-4021"),
        ("PUT", f"{ISSUING}/enrollments", 405, "cagw-4021"),
        ("GET", f"{ISSUING}/enrollments", 405, "cagw-4021"),
        ("GET", f"{ISSUING}/profiles/%FF", 400, "cagw-4001"),
        ("GET", f"{ISSUING}?$fields=%2F", 400, "cagw-4001"),
        ("GET", f"{ISSUING}/properties?fields=shoeSize", 400, "cagw-4001"),
        ("GET", f"{ISSUING}/certificates/{'F' * 5000}", 400, "cagw-4001"),
    ],
)
async def test_every_wrong_turn_is_answered_in_json(
    integrator: Client, method: str, path: str, status: int, code: str
) -> None:
    answer = await integrator.request(method, path)
    assert (answer.status, answer.code) == (status, code)
    assert answer.json["error"]["message"]
    if status == 405:
        assert answer.headers["allow"] in ("GET, HEAD", "POST")


async def test_a_body_that_is_too_long_or_of_another_type_is_refused(authority: Authority, integrator: Client) -> None:
    large = await integrator.request("POST", f"{ISSUING}/enrollments", b" " * (authority.settings.request_limit + 1))
    assert (large.status, large.code) == (413, "cagw-4023")
    form = {"content-type": "application/x-www-form-urlencoded"}
    other = await integrator.request("POST", f"{ISSUING}/enrollments", b"a=b", form)
    assert (other.status, other.code) == (415, "cagw-4022")


async def test_a_malformed_body_names_the_places_and_keeps_secrets(integrator: Client) -> None:
    wanted = {"format": "ZIP", "protection": {"password": ["planted-secret"]}}
    answer = await integrator.enroll(wish(profileId=7, requiredFormat=wanted))
    error = answer.json["error"]
    targets = {detail.get("target") for detail in error["details"]}
    assert {"/profileId", "/requiredFormat/format", "/requiredFormat/protection/password"} <= targets
    assert b"planted-secret" not in answer.body


async def test_passwords_stay_out_of_errors(integrator: Client) -> None:
    wanted = {"format": "PKCS12", "protection": {"type": "Vault", "password": "planted-secret"}}
    answer = await integrator.enroll(wish(csr=..., requiredFormat=wanted))
    assert answer.status == 400
    assert b"planted-secret" not in answer.body


async def test_a_failure_of_ours_is_told_without_its_inside(
    integrator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("the inside")

    monkeypatch.setattr(integrator.app.gateway, "connector", broken)
    answer = await integrator.get(ISSUING)
    assert (answer.status, answer.code) == (500, "cagw-5000")
    assert b"the inside" not in answer.body


async def test_a_database_that_is_away_is_503(authority: Authority, integrator: Client) -> None:
    assert (await integrator.get(ISSUING)).status == 200
    authority.database.url = "postgresql://127.0.0.1:1/none"
    await authority.database.close()
    answer = await integrator.get(f"{ISSUING}/certificate-events")
    assert (answer.status, answer.code) == (503, "cagw-5002")


async def test_head_is_answered_like_get_without_a_body(integrator: Client) -> None:
    got, head = await integrator.get(CA_PATH), await integrator.request("HEAD", CA_PATH)
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == str(len(got.body))


async def test_nothing_is_cached_on_the_way(integrator: Client) -> None:
    assert (await integrator.get(CA_PATH)).headers["cache-control"] == "no-store"


async def test_status_and_properties_of_a_ca(integrator: Client) -> None:
    assert (await integrator.get(f"{ISSUING}/status")).json["status"] == "UP"
    everything = (await integrator.get(f"{ISSUING}/properties")).json["CAPropertiesInformation"]["properties"]
    assert everything["keyAlgorithm"] == "ecdsa-p256"
    assert everything["crlDistributionPoints"] == ["http://pki.example/crl/demo/issuing/crl.crl"]
    two = (await integrator.get(f"{ISSUING}/properties?fields=defaultPolicyOIDs,notAfter")).json
    assert set(two["CAPropertiesInformation"]["properties"]) == {"defaultPolicyOIDs", "notAfter"}


async def test_a_ca_without_certificate_is_down(integrator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    async def outage(*_: Any) -> str:
        return 'CA "demo~issuing" has no certificate yet.'

    monkeypatch.setattr(integrator.app.gateway.connector(None), "outage", outage)  # type: ignore[arg-type]
    answer = (await integrator.get(f"{ISSUING}/status")).json
    assert (answer["status"], answer["message"]["message"]) == ("DOWN", 'CA "demo~issuing" has no certificate yet.')


# ---- documents -------------------------------------------------------------------------------------------------------


async def test_the_documents_need_no_client_certificate_and_no_script(clients: dict[str, Client]) -> None:
    anybody = Client(clients["integrator"].app)
    for path in ("/cagw/doc", "/cagw/docs", "/cagw/v1/doc", "/cagw/swagger-ui", "/cagw/v1/swagger-ui"):
        answer = await anybody.get(path)
        assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
        page = answer.body.decode()
        assert "<script" not in page
        assert "http:" not in page.replace("https://gateway.example:8444", "")
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    reference = (await anybody.get("/cagw/doc")).body.decode()
    assert all(code in reference for code in CATALOGUE)


async def test_the_host_of_the_commands_cannot_carry_markup(clients: dict[str, Client]) -> None:
    page = await clients["integrator"].get("/cagw/swagger-ui", host="<img src=x>")
    assert b"<img" not in page.body


async def test_the_pages_can_be_switched_off(authority: Authority, clients: dict[str, Client]) -> None:
    await configure(authority, documentation=False)
    client = clients["integrator"]
    assert (await client.get("/cagw/doc")).code == "cagw-4017"
    assert (await client.get("/cagw/openapi.json")).status == 200


async def test_the_openapi_document_describes_exactly_the_routes_there_are(clients: dict[str, Client]) -> None:
    served = await clients["integrator"].get("/cagw/openapi.json")
    assert served.body == openapi.document_json()
    assert (await clients["integrator"].get("/cagw")).body == served.body
    documented = {
        (method.upper(), path) for path, item in openapi.document()["paths"].items() for method in item
    }
    pages = re.compile(r"/cagw(/v1)?(/(openapi\.json|docs?|swagger-ui))?")
    routed = {(route.method, route.pattern) for route in ROUTES}
    assert documented == {(m, p) for m, p in routed if p == "/cagw/v1" or not pages.fullmatch(p)}


def test_every_reference_in_the_document_leads_somewhere() -> None:
    document = openapi.document()
    references = set(re.findall(r'"\$ref":"#/components/(\w+)/(\w+)"', openapi.document_json().decode()))
    assert references
    for section, name in references:
        assert name in document["components"][section]
    identifiers = [operation.identifier for operation in openapi.OPERATIONS]
    assert len(set(identifiers)) == len(identifiers)


def test_every_schema_of_the_document_is_one() -> None:
    for schema in openapi.document()["components"]["schemas"].values():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


def test_every_translated_code_is_in_the_catalogue() -> None:
    assert set(TRANSLATION.values()) <= set(CATALOGUE)
    assert all(code == entry.code for code, entry in CATALOGUE.items())


def _classes(kind: type[IntaglioError]) -> set[type[IntaglioError]]:
    return {kind}.union(*(_classes(sub) for sub in kind.__subclasses__()))


def test_every_class_of_error_has_a_place_in_the_catalogue() -> None:
    for kind in _classes(IntaglioError) - {IntaglioError}:
        if kind.__init__ is IntaglioError.__init__:
            assert catalogue_entry(kind("x")).code != "cagw-5000"
    assert catalogue_entry(StateConflict("x", code="idempotency-key-reused")).code == "cagw-4026"
