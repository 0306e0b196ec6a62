"""Every operation of mutual TLS identity needs somebody, and the permission it should."""

from __future__ import annotations

import re
from typing import Any

from httpx import AsyncClient, Response
from tests.server.management_client import Management

from intaglio.core.principal import ALL_PERMISSIONS, SYSTEM, Permission
from intaglio.identity.roles import create_role
from intaglio.server.management.app import management_app

_ID = "00000000-0000-7000-8000-000000000000"
#: What everybody may ask, since something else than a login authorizes it: a security code, a session, a token of an
#: ingress; or since it is public.
PUBLIC = re.compile(
    r"(GET /enrol/v1/(policy|ca\.(pem|cer|mobileconfig))|POST /enrol/v1/(revoke|sessions.*)"
    r"|(GET|POST) /mtls/v1/gateway/.*)"
)
_DOMAIN, _IDENTITY, _EDGE = "/mtls/v1/domains/none", "/mtls/v1/identities/none", f"/mtls/v1/edges/{_ID}"

#: What is refused to whoever has every permission but one, in the rooms of trust domains and identities.
NEEDED: dict[Permission, set[str]] = {
    Permission.MTLS_VIEW: {"GET /mtls/v1/designs/none"},
    Permission.MTLS_IDENTITIES: {
        *("POST /mtls/v1/domains", f"PATCH {_DOMAIN}", f"POST {_DOMAIN}/finish-rotation", f"POST {_DOMAIN}/retire"),
        *("POST /mtls/v1/cas", "POST /mtls/v1/identities", "POST /mtls/v1/identities/import", f"PATCH {_IDENTITY}"),
        *(f"POST {_IDENTITY}/{action}" for action in ("suspend", "resume", "retire")),
        "POST /mtls/v1/designs/none",
    },
    Permission.MTLS_POLICY: {f"POST {_EDGE}/approve"},
    Permission.CA_CONFIGURE: {f"POST {_DOMAIN}/subordinates"},
}
_ROOMS = re.compile(r"\S+ /mtls/v1/(domains|cas|identities|bindings|revocations|bundles|edges|designs)\b")

#: Bodies of the right form, for the operations that need one.
BODIES: dict[str, dict[str, Any]] = {
    "POST /mtls/v1/domains": {"name": "x.example", "environment": "x", "organization": "none"},
    "POST /mtls/v1/cas": {"domain": "none", "issuing_ca": "none~none"},
    "POST /mtls/v1/identities": {"domain": "none", "kind": "device"},
    "POST /mtls/v1/identities/import": {"identities": [{"domain": "none", "kind": "device"}]},
    f"POST {_IDENTITY}/certificates": {"csr": "x"},
    f"POST {_DOMAIN}/subordinates": {"csr": "x", "purpose": "x"},
    "POST /mtls/v1/edges": {"service": "none", "trusted_domain": "none"},
    "POST /mtls/v1/revocations": {"serial": "AA"},
}


def operations(management: Management) -> list[str]:
    """Every operation beside `/api/v1`, on things that do not exist."""
    application = management_app(management.services, management.services.refusals)
    found = set()
    for path, methods in application.openapi()["paths"].items():
        if path.startswith("/api/v1"):
            continue
        shown = re.sub(r"\{(edge|binding|code)\}", _ID, path)
        found |= {f"{method.upper()} {re.sub(r'{[a-z_]+}', 'none', shown)}" for method in methods}
    return sorted(found)


async def ask(client: AsyncClient, operation: str) -> Response:
    method, path = operation.split(" ")
    body = BODIES.get(operation, {}) if method in ("POST", "PUT", "PATCH") else None
    return await client.request(method, f"http://management{path}", json=body)


async def test_nobody_gets_nothing_but_what_is_public(management: Management) -> None:
    asked = operations(management)
    assert len(asked) > 30
    async with management.client() as stranger:
        for operation in asked:
            answer = await ask(stranger, operation)
            assert answer.status_code == 401 or PUBLIC.fullmatch(operation), operation


async def test_whoever_holds_no_permission_gets_nothing_of_trust_domains_and_identities(
    management: Management,
) -> None:
    client = await management.user("nobody")
    for operation in filter(_ROOMS.match, operations(management)):
        answer = await ask(client, operation)
        # What acts on one thing is looked up first: to whoever may not know of it, it does not exist.
        assert answer.status_code in (403, 404), operation


async def test_whoever_lacks_one_permission_is_refused_what_needs_it(management: Management) -> None:
    asked = list(filter(_ROOMS.match, operations(management)))
    for number, permission in enumerate(sorted(ALL_PERMISSIONS)):
        async with management.services.database.transaction() as tx:
            await create_role(tx, SYSTEM, f"role-{number}", ALL_PERMISSIONS - {permission})
        client = await management.user(f"user{number}", f"role-{number}")
        refused = set()
        for operation in asked:
            answer = await ask(client, operation)
            if answer.status_code == 403 and answer.json()["code"] == "permission-missing":
                assert answer.json()["permission"] == permission
                refused.add(operation)
        assert refused == NEEDED.get(permission, set()), permission
