"""The installation as a document: reading, comparing, applying."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from httpx import AsyncClient
from hypothesis import given
from hypothesis import strategies as st
from tests.server.management_client import Management

import intaglio
from intaglio.core.errors import InvalidInput, Refused
from intaglio.server.management.declarative import document
from intaglio.server.management.declarative.difference import difference
from intaglio.server.management.declarative.document import Document, parse

WANTED = """
organizations:
- name: demo
  description: Demonstration
  cas:
  - {name: issuing, kind: issuing, issuer: root, key_algorithm: P-256, subject: "CN=Issuing,O=Demo",
     profiles: [my-web], administrators: [alice], auditors: [bob], tenants: {ci: policy-constrained-tenant}}
  - {name: root, kind: root, key_algorithm: P-384, subject: "CN=Root,O=Demo", profiles: [privatessl-tls-server],
     administrators: [alice], options: {crl_interval_hours: 12}}
profiles:
- {id: my-web, title: Web, group: privatessl, channels: [console, gateway-api], require_san_for_server: true,
   key_usage: [digitalSignature], extended_key_usage: [serverAuth], validity: {default: P90D}}
settings:
  logging: {level: WARN}
"""
#: Its last step is refused when it is taken: the CA would outlive its issuer.
BROKEN = WANTED.replace("profiles: [my-web]", 'profiles: [my-web], not_after: "2099-01-01T00:00:00Z"')


async def apply(client: AsyncClient, text: str, **query: Any) -> dict[str, Any]:
    """What the server answers to a declaration."""
    answer = await client.post("/declaration", json={"declaration": text}, params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_declaration_is_applied_once_and_then_changes_nothing(operator: AsyncClient) -> None:
    planned = await apply(operator, WANTED, dry_run=True)
    assert (await operator.get("/organizations")).json()["items"] == []
    done = await apply(operator, WANTED)
    assert [each["object"] for each in done["changes"]] == [each["object"] for each in planned["changes"]]
    order = [each["object"] for each in done["changes"]]
    assert order == ["settings logging", "profile my-web", "organization demo", "ca demo~root", "ca demo~issuing"]
    assert sorted(each["name"] for each in done["credentials"]) == ["alice", "bob", "ci"]
    assert (await apply(operator, WANTED))["changes"] == []
    assert (await operator.get("/cas/demo~issuing")).json()["tenants"] == ["ci"]


async def test_an_export_is_a_declaration_of_what_is_there(operator: AsyncClient, management: Management) -> None:
    done = await apply(operator, WANTED)
    exported = (await operator.get("/declaration")).json()["declaration"]
    assert (await apply(operator, exported, prune=True, dry_run=True))["changes"] == []
    for secret in [each["password"] for each in done["credentials"]]:
        assert secret not in exported
    assert "PRIVATE KEY" not in exported


async def test_only_the_difference_is_applied(operator: AsyncClient) -> None:
    await apply(operator, WANTED)
    changed = WANTED.replace("crl_interval_hours: 12", "crl_interval_hours: 6").replace("[bob]", "[bob, eve]")
    done = await apply(operator, changed.replace("default: P90D", "default: P30D"))
    assert {(each["action"], each["object"]) for each in done["changes"]} == {
        ("change", "profile my-web"),
        ("change", "ca demo~root"),
        ("change", "ca demo~issuing"),
    }
    assert [each["name"] for each in done["credentials"]] == ["eve"]
    assert (await operator.get("/cas/demo~root")).json()["options"]["crl_interval_hours"] == 6
    profile = (await operator.get("/profiles/my-web")).json()
    assert (profile["version"], profile["state"]) == (2, "active")


async def test_nothing_is_deleted_unless_asked(operator: AsyncClient) -> None:
    await apply(operator, WANTED)
    assert (await apply(operator, "organizations: []"))["changes"] == []
    done = await apply(operator, "organizations: []", prune=True)
    assert [each["object"] for each in done["changes"]] == ["ca demo~issuing", "ca demo~root", "organization demo"]
    assert (await operator.get("/cas")).json()["items"] == []


async def test_a_refusal_says_what_was_done_and_hands_over_what_was_made(operator: AsyncClient) -> None:
    answer = await operator.post("/declaration", json={"declaration": BROKEN})
    problem = answer.json()
    assert answer.status_code >= 400
    assert "ca demo~issuing" in problem["detail"]
    assert problem["done"][-1] == "create ca demo~root"
    assert [each["name"] for each in problem["credentials"]] == ["alice"]
    assert [each["object"] for each in (await apply(operator, WANTED))["changes"]] == ["ca demo~issuing"]


async def test_all_that_cannot_be_is_said_before_anything_changes(operator: AsyncClient) -> None:
    wrong = """
organizations:
- name: fine
  cas:
  - {name: crl, kind: root, key_algorithm: P-256, subject: "O=No name", profiles: [nothing], administrators: [alice]}
  - {name: sub, kind: issuing, issuer: nowhere, key_algorithm: P-256, subject: "CN=Sub", profiles: [],
     administrators: [], not_after: "2001-01-01T00:00:00Z"}
- {name: platform}
"""
    for dry_run in (True, False):
        answer = await operator.post("/declaration", json={"declaration": wrong}, params={"dry_run": dry_run})
        assert (answer.status_code, answer.json()["code"]) == (400, "declaration-invalid")
        assert [error["pointer"] for error in answer.json()["errors"]] == [
            *(f"/organizations/0/cas/0/{field}" for field in ("name", "subject", "profiles")),
            *(f"/organizations/0/cas/1/{field}" for field in ("not_after", "issuer", "administrators", "profiles")),
            "/organizations/1/name",
        ]
    assert (await operator.get("/organizations")).json()["items"] == []


async def test_what_is_frozen_is_refused_before_anything_changes(operator: AsyncClient) -> None:
    await apply(operator, WANTED)
    changed = WANTED.replace("CN=Root,O=Demo", "CN=Other,O=Demo").replace("level: WARN", "level: INFO")
    answer = await operator.post("/declaration", json={"declaration": changed})
    assert (answer.status_code, answer.json()["code"]) == (422, "setting-frozen")
    assert "demo~root" in answer.json()["detail"]
    assert (await operator.get("/settings/logging")).json()["values"]["level"] == "WARN"


async def test_an_exported_hierarchy_can_be_made_anew(operator: AsyncClient) -> None:
    deeper = """
organizations:
- name: demo
  cas:
  - {name: root, kind: root, key_algorithm: P-256, subject: "CN=Root", profiles: [privatessl-tls-server],
     administrators: [alice]}
  - {name: policy, kind: issuing, issuer: root, key_algorithm: P-256, subject: "CN=Policy", path_length: 1,
     profiles: [privatessl-tls-server], administrators: [alice], options: {allow_issuing_below: true}}
  - {name: issuing, kind: issuing, issuer: policy, key_algorithm: P-256, subject: "CN=Issuing",
     profiles: [privatessl-tls-server], administrators: [alice]}
"""
    await apply(operator, deeper)
    exported = (await operator.get("/declaration")).json()["declaration"]
    await apply(operator, exported.replace("name: demo", "name: other"))
    assert (await operator.get("/cas/other~policy")).json()["path_length"] == 1
    assert (await operator.get("/cas/other~issuing")).json()["issuer"] == "other~policy"
    assert (await apply(operator, deeper.replace("path_length: 1, ", "")))["changes"] == []
    wrong = deeper.replace("path_length: 1", "path_length: 2")
    refused = await operator.post("/declaration", json={"declaration": wrong})
    assert (refused.status_code, refused.json()["fields"]) == (422, ["path_length"])


async def test_a_user_exports_what_he_sees(operator: AsyncClient, management: Management) -> None:
    await apply(operator, WANTED)
    stranger = await management.user("stranger", "auditor")
    exported = yaml.safe_load((await stranger.get("/declaration")).json()["declaration"])
    assert exported.get("organizations", []) == []
    assert "settings" not in exported


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        ("organisations: []", "/organisations"),
        ("organizations: [{name: demo, cas: [{name: x, kind: root}]}]", "/organizations/0/cas/0/key_algorithm"),
        ("organizations: [{name: demo, cas: [{name: x, kind: client}]}]", "/organizations/0/cas/0"),
        ("organizations: [{name: a}, {name: a}]", "/"),
        ("just text", "/"),
        ("intaglio: 2", "/intaglio"),
    ],
)
def test_what_is_wrong_in_a_document_is_named_by_its_place(text: str, pointer: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        document.parse(text)
    assert refusal.value.code == "declaration-invalid"
    assert refusal.value.fields[0][0] == pointer


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "&x {a: *x}",
        "settings: &a {x: {y: 1}}\nprofiles: [*a]",
        "[" * 100,
        "x: " + "a" * (1 << 20),
        "a: 2001-13-45",
    ],
)
def test_costly_or_broken_yaml_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        document.parse(text)


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda data: data.decode("latin-1")))
def test_no_text_does_worse_than_being_refused(text: str) -> None:
    with contextlib.suppress(InvalidInput):
        document.parse(text)


def test_issuers_that_name_each_other_are_refused() -> None:
    text = """
organizations:
- name: demo
  cas:
  - {name: aaa, kind: issuing, issuer: bbb, key_algorithm: P-256, subject: CN=A, profiles: [p], administrators: [x]}
  - {name: bbb, kind: issuing, issuer: aaa, key_algorithm: P-256, subject: CN=B, profiles: [p], administrators: [x]}
"""
    with pytest.raises(InvalidInput, match="issuers of each other"):
        difference(document.parse(text), Document(), prune=False)


def test_a_ca_does_not_change_its_kind() -> None:
    root = "{name: aaa, kind: root, key_algorithm: P-256, subject: CN=A, profiles: [p], administrators: [x]}"
    current = document.parse(f"organizations: [{{name: demo, cas: [{root}]}}]")
    wanted = document.parse("organizations: [{name: demo, cas: [{name: aaa, kind: external-root, certificate: x}]}]")
    with pytest.raises(Refused, match="kind"):
        difference(wanted, current, prune=False)


def test_a_key_that_was_moved_is_told_apart_from_what_is_fixed() -> None:
    root = "{name: aaa, kind: root, key_algorithm: P-256, subject: CN=A, profiles: [p], administrators: [x]%s}"
    text = f"organizations: [{{name: demo, cas: [{root}]}}]"
    current = document.parse(text % ', key_provider: "pkcs11:main"')
    assert difference(document.parse(text % ""), current, prune=False) == []
    with pytest.raises(Refused, match='"pkcs11:main", the declaration says "software"') as refused:
        difference(document.parse(text % ", key_provider: software"), current, prune=False)
    assert "intaglio key migrate demo~aaa --to software" in str(refused.value.remedy)
    assert "key_provider: pkcs11:main" in str(refused.value.remedy)


def test_a_document_survives_being_written_and_read() -> None:
    wanted = document.parse(WANTED)
    assert document.parse(document.dump(wanted)) == wanted
    assert difference(wanted, wanted, prune=True) == []


async def test_a_long_document_is_answered_step_by_step(operator: AsyncClient) -> None:
    headers = {"accept": "application/x-ndjson"}
    answer = await operator.post("/declaration", json={"declaration": BROKEN}, headers=headers)
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [each["changes"][0]["object"] for each in lines[:-1]][-1] == "ca demo~root"
    assert [each["name"] for line in lines[:-1] for each in line["credentials"]] == ["alice"]
    assert lines[-1]["problem"]["detail"].startswith("ca demo~issuing: ")


IDENTITIES = """
organizations:
- name: demo
  cas:
  - {name: id-root, kind: root, key_algorithm: P-256, subject: "CN=Identity root,O=Demo", administrators: [],
     profiles: [identity-user, identity-device, identity-workload, identity-service, identity-pipeline],
     options: {constraints: {permitted_dns: [prod.example, svc], permitted_uri_hosts: [prod.example]}}}
  - {name: id-prod, kind: issuing, issuer: id-root, key_algorithm: P-256, subject: "CN=Identities,O=Demo",
     administrators: [], profiles: [identity-user, identity-device, identity-workload, identity-service,
     identity-pipeline], options: {crl_on_revoke: true, constraints: {permitted_dns: [prod.example, svc],
     permitted_uri_hosts: [prod.example], purposes: [clientAuth, serverAuth, OCSPSigning]}}}
trust_domains:
- {name: prod.example, environment: prod, organization: demo, issuing_ca: demo~id-prod, dns_suffixes: [svc],
   lifetimes: {service: PT12H}, ceilings: {user: P30D}}
identities:
- {domain: prod.example, kind: service, name: payments, team: finance, roles: [reader], dns_names: [payments.svc]}
- {domain: prod.example, kind: user, email: alice@example.com, display_name: Alice}
"""


async def test_trust_domains_and_identities_are_declared_once(operator: AsyncClient) -> None:
    done = await apply(operator, IDENTITIES)
    assert [each["object"] for each in done["changes"]] == [
        *("organization demo", "ca demo~id-root", "ca demo~id-prod", "trust domain prod.example"),
        *("identity service:payments@prod.example", "identity user:alice@example.com@prod.example"),
    ]
    assert done["credentials"] == []
    assert (await apply(operator, IDENTITIES))["changes"] == []
    exported = (await operator.get("/declaration")).json()["declaration"]
    assert (await apply(operator, exported, prune=True, dry_run=True))["changes"] == []
    domain = (await operator.get("http://management/mtls/v1/domains/prod.example")).json()
    assert (domain["lifetimes"]["service"], domain["ceilings"]["user"]) == ("PT12H", "P30D")
    assert (domain["state"], domain["issuing_ca"]) == ("active", "demo~id-prod")


async def test_declared_identities_are_changed_and_retired(operator: AsyncClient) -> None:
    await apply(operator, IDENTITIES)
    changed = IDENTITIES.replace("roles: [reader]", "roles: [reader, writer]").replace("PT12H", "PT6H")
    done = await apply(operator, changed.replace("display_name: Alice", "display_name: Alice B."))
    assert {(each["action"], each["object"]) for each in done["changes"]} == {
        ("change", "trust domain prod.example"),
        ("change", "identity service:payments@prod.example"),
        ("change", "identity user:alice@example.com@prod.example"),
    }
    kept = changed.partition("- {domain: prod.example, kind: user")[0]
    done = await apply(operator, kept, prune=True)
    assert [(each["action"], each["object"]) for each in done["changes"]] == [
        ("delete", "identity user:alice@example.com@prod.example")
    ]
    done = await apply(operator, "trust_domains: []\nidentities: []", prune=True)
    assert [each["action"] for each in done["changes"]] == ["delete", "delete"]
    assert (await operator.get("http://management/mtls/v1/domains/prod.example")).json()["state"] == "retired"


async def test_what_is_fixed_about_a_trust_domain_is_refused(operator: AsyncClient) -> None:
    await apply(operator, IDENTITIES)
    moved = IDENTITIES.replace("environment: prod", "environment: dev")
    answer = await operator.post("/declaration", json={"declaration": moved}, params={"dry_run": True})
    assert (answer.status_code, answer.json()["code"]) == (422, "setting-frozen")
    for wrong in ("name: bob, email: b@example.com", "display_name: Nobody"):
        text = f"identities: [{{domain: prod.example, kind: user, {wrong}}}]"
        answer = await operator.post("/declaration", json={"declaration": text})
        assert (answer.status_code, answer.json()["code"]) == (400, "declaration-invalid")


ACCESS = (
    IDENTITIES
    + """
policies:
- name: ledger
  organization: demo
  source: |
    allow if kind == service and team == "finance"
  cases:
  - {name: finance reads, expect: allow, identity: {kind: service, team: finance}, path: /ledger/1}
  - {name: others do not, expect: deny, identity: {kind: service, team: search}, path: /ledger/1}
ingresses:
- {name: front, organization: demo, domain: prod.example, listener: "0.0.0.0:443", hosts: [api.prod.example],
   ip_rule: [192.0.2.7, 2001:db8::/32], policy: ledger}
- {name: quiet, organization: demo, domain: prod.example, type: haproxy, ip_rule: [], mode: enforce}
"""
)


async def test_policies_and_ingresses_are_declared_once(operator: AsyncClient) -> None:
    done = await apply(operator, ACCESS)
    assert [each["object"] for each in done["changes"]][-3:] == [
        *("policy demo~ledger", "ingress demo~front", "ingress demo~quiet"),
    ]
    assert (await apply(operator, ACCESS))["changes"] == []
    exported = (await operator.get("/declaration")).json()["declaration"]
    assert (await apply(operator, exported, prune=True, dry_run=True))["changes"] == []
    front = (await operator.get("http://management/mtls/v1/ingresses/demo~front")).json()
    assert (front["mode"], front["policy"]) == ("permissive", "ledger")
    assert front["ip_rule"] == ["192.0.2.7/32", "2001:db8::/32"]
    (policy,) = (await operator.get("http://management/mtls/v1/policies")).json()["items"]
    assert (policy["name"], policy["active_version"]) == ("ledger", 1)


async def test_declared_policies_and_ingresses_are_changed_and_retired(operator: AsyncClient) -> None:
    await apply(operator, ACCESS)
    changed = ACCESS.replace('team == "finance"', 'team == "finance" and not "guest" in roles')
    changed = changed.replace("ip_rule: [192.0.2.7, 2001:db8::/32], policy: ledger", "ip_rule: null, policy: null")
    done = await apply(operator, changed.replace("mode: enforce", "mode: off"))
    assert {(each["action"], each["object"]) for each in done["changes"]} == {
        *(("change", "policy demo~ledger"), ("change", "ingress demo~front"), ("change", "ingress demo~quiet")),
    }
    front = (await operator.get("http://management/mtls/v1/ingresses/demo~front")).json()
    assert (front["ip_rule"], front["policy"]) == (None, None)
    done = await apply(operator, "ingresses: []\npolicies: []", prune=True)
    assert [(each["action"], each["object"]) for each in done["changes"]] == [
        *(("delete", "ingress demo~front"), ("delete", "ingress demo~quiet"), ("delete", "policy demo~ledger")),
    ]


async def test_an_ingress_that_is_declared_in_part_keeps_the_rest(operator: AsyncClient) -> None:
    await apply(operator, ACCESS)
    part = "ingresses: [{name: front, organization: demo, domain: prod.example, description: At the front}]"
    (change,) = (await apply(operator, part))["changes"]
    assert [each[0] for each in change["fields"]] == ["description"]
    front = (await operator.get("http://management/mtls/v1/ingresses/demo~front")).json()
    assert (front["policy"], front["ip_rule"]) == ("ledger", ["192.0.2.7/32", "2001:db8::/32"])


async def test_a_declaration_shuts_nobody_out_without_evidence_and_activates_nothing_unproved(
    operator: AsyncClient,
) -> None:
    await apply(operator, ACCESS)
    enforcing = "ingresses: [{name: front, organization: demo, domain: prod.example, mode: enforce}]"
    answer = await operator.post("/declaration", json={"declaration": enforcing})
    assert (answer.status_code, answer.json()["code"]) == (409, "ingress-not-ready")
    wrong = ACCESS.replace("expect: deny", "expect: allow")
    answer = await operator.post("/declaration", json={"declaration": wrong})
    assert (answer.status_code, answer.json()["code"]) == (422, "policy-cases-failed")
    moved = ACCESS.replace("type: haproxy", "type: nginx")
    answer = await operator.post("/declaration", json={"declaration": moved}, params={"dry_run": True})
    assert (answer.status_code, answer.json()["code"]) == (422, "setting-frozen")


PARTNERS = (
    IDENTITIES
    + """
pipelines:
- {name: deploy, identity: "service:payments@prod.example", issuer: "https://gitlab.example.com", token_uses: 3,
   audience: "https://pki.example.com", conditions: {project_path: [finance/payments], ref: [main, release]}}
outbound:
- {name: bank, organization: demo, host_pattern: api.bank.example, title: Transfers, minimum_tls: "1.3"}
"""
)
_OBJECTS = ("pipeline deploy", "outbound credential demo/bank")


async def test_pipelines_and_outbound_credentials_are_declared_once(operator: AsyncClient) -> None:
    done = await apply(operator, PARTNERS)
    assert tuple(each["object"] for each in done["changes"][-2:]) == _OBJECTS
    assert any("intaglio mtls outbound import" in note for note in done["notes"])
    assert (await apply(operator, PARTNERS))["changes"] == []
    exported = (await operator.get("/declaration")).json()["declaration"]
    assert (await apply(operator, exported, prune=True, dry_run=True))["changes"] == []
    read = parse(exported)
    assert [(each.name, each.identity, each.token_uses) for each in read.pipelines or ()] == [
        ("deploy", "service:payments@prod.example", 3)
    ]
    assert [(each.reference, each.title, each.minimum_tls) for each in read.outbound or ()] == [
        ("demo/bank", "Transfers", "1.3")
    ]


async def test_exported_pipelines_and_outbound_credentials_can_be_made_anew(operator: AsyncClient) -> None:
    await apply(operator, PARTNERS)
    exported = (await operator.get("/declaration")).json()["declaration"]
    await apply(operator, "pipelines: []", prune=True)
    done = await apply(operator, exported)
    assert [(each["action"], each["object"]) for each in done["changes"]] == [("create", "pipeline deploy")]
    assert (await operator.get("/declaration")).json()["declaration"] == exported


async def test_declared_pipelines_and_outbound_credentials_are_changed_and_removed(operator: AsyncClient) -> None:
    await apply(operator, PARTNERS)
    changed = PARTNERS.replace("ref: [main, release]", "ref: [main]").replace("token_uses: 3", "lifetime: PT1H")
    done = await apply(operator, changed.replace("title: Transfers", "title: Payments"))
    assert [(each["action"], each["object"]) for each in done["changes"]] == [("change", each) for each in _OBJECTS]
    pipeline = (await operator.get("http://management/mtls/v1/pipelines/deploy")).json()
    assert (pipeline["conditions"]["ref"], pipeline["lifetime"], pipeline["token_uses"]) == (["main"], "PT1H", 3)
    assert (await operator.get("http://management/mtls/v1/outbound/demo/bank")).json()["title"] == "Payments"
    done = await apply(operator, "pipelines: []\noutbound: []", prune=True)
    assert [(each["action"], each["object"]) for each in done["changes"]] == [("delete", each) for each in _OBJECTS]
    assert (await operator.get("http://management/mtls/v1/outbound/demo/bank")).json()["state"] == "retired"


async def test_host_of_an_outbound_credential_is_fixed(operator: AsyncClient) -> None:
    await apply(operator, PARTNERS)
    moved = PARTNERS.replace("api.bank.example", "api.other.example")
    answer = await operator.post("/declaration", json={"declaration": moved}, params={"dry_run": True})
    assert (answer.status_code, answer.json()["code"]) == (422, "setting-frozen")


def test_a_process_that_has_done_nothing_else_knows_all_settings() -> None:
    """Rooms of the API are imported when they are entered; that of declarations may be the first."""
    sources = [each.read_text() for each in Path(intaglio.__file__).parent.rglob("*.py")]
    defining = "".join(text for text in sources if "(SettingsGroup)" in text)
    groups = set(re.findall(r'^    group = "(\w+)"', defining, re.MULTILINE))
    program = (
        "import intaglio.server.management.declarative.reading; from intaglio.platform.live_settings import CATALOGUE; "
        "print(*CATALOGUE)"
    )
    known = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout
    assert set(known.split()) == groups
