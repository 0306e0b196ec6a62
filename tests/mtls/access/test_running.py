"""Ingresses and policies on a running server: the command line, the listener, two people, and what is recorded."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.support.product import Product, eventually
from tests.support.programs import run

_POLICY = """
language: short
source: |
  allow if kind == service and team == "finance"
cases:
  - {name: finance, identity: {kind: service, team: finance}, expect: allow}
  - {name: search, identity: {kind: service, team: search}, expect: deny}
"""


@dataclass
class Place:
    """An ingress of an organization of this module's own, with certificates of two services."""

    product: Product
    folder: Path
    org: str

    @property
    def ingress(self) -> str:
        return f"{self.org}~web"

    def mtls(self, *arguments: str | Path) -> str:
        return self.product.run("mtls", *arguments, cwd=self.folder)

    def ask(self, certificate: str | None, path: str = "/ledger") -> tuple[int, str]:
        """Status and reason of the endpoint's answer to nginx."""
        escaped = quote((self.folder / certificate).read_text(), safe="") if certificate else ""
        headers = {
            "X-Intaglio-Token": (self.folder / "web.token").read_text().strip(),
            "X-Client-Cert": escaped,
            "X-Real-IP": "127.0.0.1",
            "X-Original-Method": "GET",
            "X-Original-URI": path,
        }
        given = [part for name, value in headers.items() for part in ("--header", f"{name}: {value}")]
        url = self.product.url("access", "/access/v1/nginx")
        told = run("curl", "--silent", "--output", "/dev/null", "--write-out", "%{json}\n%{header_json}", *given, url)
        first, _, rest = told.partition("\n")
        reason = json.loads(rest).get("x-intaglio-reason", [""])
        return json.loads(first)["response_code"], reason[0]

    def events(self, *conditions: str) -> list[dict[str, Any]]:
        given = [part for condition in conditions for part in ("--filter", condition)]
        found: list[dict[str, Any]] = self.product.json("mtls", "event", "list", "--org", self.org, *given)
        return found


@pytest.fixture(scope="module")
def place(product: Product, tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("access")
    org = f"org-{secrets.token_hex(3)}"
    made = Place(product, folder, org)
    domain = f"{org}.example"
    product.run("org", "create", org)
    made.mtls("domain", "create", domain, "--environment", f"env-{secrets.token_hex(3)}", "--org", org, "--new-ca")
    for name, team in (("ledger", "finance"), ("crawler", "search")):
        made.mtls("identity", "add", "service", name, "--domain", domain, "--team", team)
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", folder / f"{name}.key")
        run("openssl", "req", "-new", *key, "-subj", "/CN=x", "-out", folder / f"{name}.csr")
        request = ("--csr", f"{name}.csr", "--out", f"{name}.pem")
        made.mtls("identity", "issue", f"service:{name}@{domain}", *request)
    (folder / "policy.yaml").write_text(_POLICY)
    made.mtls("policy", "apply", "ledger", "--org", org, "--file", "policy.yaml", "--activate")
    ingress = ("--org", org, "--domain", domain, "--policy", "ledger", "--allow", "127.0.0.0/8", "--out", "web.token")
    made.mtls("ingress", "add", "web", *ingress)
    return made


def test_ingress_goes_from_permissive_to_enforce_and_back(place: Place) -> None:
    assert (place.folder / "web.token").stat().st_mode & 0o777 == 0o600
    assert place.ask("ledger.pem") == (200, "")
    eventually(lambda: len(place.events("decision=allow")) == 1, what="the decision is recorded")
    assert "is ready to enforce" in place.mtls("ingress", "readiness", place.ingress)
    assert place.ask("crawler.pem") == (200, "policy_denied")
    eventually(lambda: len(place.events("reason=policy_denied")) == 1, what="the offence is recorded")
    refused = place.product.attempt("mtls", "ingress", "mode", place.ingress, "enforce")
    assert refused.status == 1
    assert "is not ready to enforce" in refused.output
    forced = place.mtls("ingress", "mode", place.ingress, "enforce", "--force", "--reason", "crawler moves next week")
    assert "Another policy administrator has to agree" in forced
    request = place.product.json("mtls", "ingress", "requests", "--filter", f"ingress={place.ingress}")[0]
    own = place.product.attempt("mtls", "ingress", "approve", request["id"])
    assert own.status == 1
    assert "cannot approve" in own.output
    place.mtls("ingress", "reject", request["id"])
    assert "is permissive until" in place.mtls("ingress", "mode", place.ingress, "permissive", "--days", "5")


def test_event_names_caller_route_and_decision(place: Place) -> None:
    place.ask("ledger.pem", "/named?token=secret")
    eventually(lambda: len(place.events("path=/named")) == 1, what="the decision is recorded")
    event = place.events("path=/named")[0]
    assert event["identity"].endswith("/team/finance/svc/ledger")
    assert (event["decision"], event["method"], event["ingress"]) == ("allow", "GET", place.ingress)
    assert event["serial"]
    assert "secret" not in json.dumps(event)


def test_revoked_service_is_refused_within_seconds(place: Place) -> None:
    domain = f"{place.org}.example"
    ingress = ("--org", place.org, "--domain", domain, "--mode", "enforce", "--out", "strict.token")
    place.mtls("ingress", "add", "strict", *ingress)
    (place.folder / "web.token").rename(place.folder / "kept.token")
    (place.folder / "strict.token").rename(place.folder / "web.token")
    try:
        eventually(lambda: place.ask("crawler.pem") == (200, ""), what="the ingress is known")
        place.mtls("revoke", "--identity", f"service:crawler@{domain}", "--yes")
        eventually(lambda: place.ask("crawler.pem") == (401, "revoked"), what="the revocation counts")
        assert place.ask(None) == (401, "no_certificate")
    finally:
        (place.folder / "kept.token").rename(place.folder / "web.token")


def test_policy_is_explained_and_tried(place: Place) -> None:
    policy = f"{place.org}~ledger"
    identity = ("--identity", "kind=service", "--identity", "team=finance")
    assert "allowed (line 1)" in place.mtls("policy", "explain", policy, *identity, "--path", "/x")
    assert "no rule allows it" in place.mtls("policy", "explain", policy, "--path", "/x")
    assert "finance" in place.mtls("policy", "test", policy)
    assert "entity Identity" in place.mtls("policy", "schema")
    (place.folder / "wrong.txt").write_text("allow if salary == high\n")
    refused = place.product.attempt(
        "mtls", "policy", "apply", "ledger", "--org", place.org, "--file", place.folder / "wrong.txt"
    )
    assert refused.status == 1
    assert "line 1" in refused.output
