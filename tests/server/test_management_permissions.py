"""Every operation of the management API needs the permission it should; none is forgotten."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import pytest
from httpx import AsyncClient, Response
from tests.server import certificates
from tests.server.management_client import Management, root_body

from intaglio.core.principal import ALL_PERMISSIONS, SYSTEM, Permission
from intaglio.identity.roles import create_role
from intaglio.server.management.app import PREFIX, management_app

_CA, _ORGANIZATION = "/cas/none~none", "/organizations/none"
_SERIAL = f"{_CA}/certificates/AA"
_SIGNER, _CREDENTIAL = f"/validation/signers/{UUID(int=0)}", f"/validation/credentials/{UUID(int=0)}"
_ENDPOINT, _REQUEST = "/enrollment/endpoints/acme/none", f"/enrollment/requests/{UUID(int=0)}"
_ACME_ACCOUNT, _ACME_ORDER = (f"/enrollment/acme/{kind}/{UUID(int=0)}" for kind in ("accounts", "orders"))

#: What a user may do who holds no permission: what concerns himself, and what everybody is told.
FREE = {
    *("GET /me", "POST /me/password", "GET /tokens", "POST /tokens", "DELETE /tokens/none", "POST /tokens/none/rotate"),
    *("GET /status", "GET /platform/ca-certificate"),
}
#: What needs one of several permissions.
EITHER = {"GET /roles", "GET /roles/none", "GET /profiles", "GET /profiles/none", "POST /profiles/none/test"}
NEEDED: dict[Permission, set[str]] = {
    Permission.CA_VIEW: {
        *("GET /organizations", f"GET {_ORGANIZATION}", f"GET {_ORGANIZATION}/members"),
        *(f"POST {_ORGANIZATION}/join", f"POST {_ORGANIZATION}/leave", f"DELETE {_ORGANIZATION}/members/none"),
        *(f"GET {_ORGANIZATION}/credentials", "GET /certificates", f"GET {_SERIAL}", "GET /events"),
        *("GET /cas", f"GET {_CA}", *(f"GET {_CA}/{part}" for part in ("chain", "csr", "crls", "crl", "grants"))),
        *("GET /declaration", "POST /declaration"),
    },
    Permission.CA_OPERATE: {
        *(f"POST {_CA}/certificates", f"POST {_CA}/certificates/preview", f"POST {_CA}/crls"),
        *(f"POST {_SERIAL}/{action}" for action in ("renew", "reissue", "revoke", "hold", "unhold")),
        *(f"POST {_CA}/subjects/{action}" for action in ("revoke", "hold", "unhold")),
        "POST /validation/credentials/issue",  # which also needs what the rest of its room needs
    },
    Permission.CA_CONFIGURE: {
        *("POST /organizations", f"PATCH {_ORGANIZATION}", f"DELETE {_ORGANIZATION}"),
        *(f"PUT {_ORGANIZATION}/members/none", f"POST {_ORGANIZATION}/cas", f"PATCH {_CA}", f"DELETE {_CA}"),
        *(f"POST {_CA}/csr", f"PUT {_CA}/certificate", f"POST {_CA}/renew", f"POST {_CA}/rekey"),
        *(f"PUT {_CA}/grants/none", f"DELETE {_CA}/grants/none"),
        *(f"POST {_ORGANIZATION}/credentials/none/reissue", f"DELETE {_ORGANIZATION}/credentials/none"),
    },
    Permission.PROFILES_MANAGE: {
        *("POST /profiles", "POST /profiles/lint", "PATCH /profiles/none"),
        *("POST /profiles/none/activate", "POST /profiles/none/retire"),
    },
    Permission.USERS_MANAGE: {
        *("GET /users", "POST /users", "GET /users/none", "PATCH /users/none", "DELETE /users/none"),
        *("POST /users/none/reset-password", "POST /users/require-password-change"),
    },
    Permission.ROLES_MANAGE: {"POST /roles", "PATCH /roles/none", "DELETE /roles/none"},
    Permission.AUDIT_VIEW: {
        *("GET /audit", "GET /audit/1", "GET /audit/1/proof", "GET /audit/seals", "GET /audit/public-keys"),
        "GET /audit/verify",
    },
    Permission.KEYS_MANAGE: {
        *("GET /keys", "POST /keys", "GET /keys/none", "DELETE /keys/none"),
        *("POST /keys/none/csr", "POST /keys/none/migrate", "GET /hsm/modules", "GET /hsm/modules/none/slots"),
        *("GET /hsm/tokens", "POST /hsm/tokens", "GET /hsm/tokens/none", "PATCH /hsm/tokens/none"),
        *("DELETE /hsm/tokens/none", "PUT /hsm/tokens/none/pin", "POST /hsm/tokens/none/check"),
        *("GET /hsm/tokens/none/objects", "POST /hsm/tokens/none/objects/adopt"),
        "DELETE /hsm/tokens/none/objects/none",
    },
    Permission.TIMESTAMPING_VIEW: {
        *("GET /timestamping/issuers", "GET /timestamping/issuers/none", "GET /timestamping/clock"),
        *("POST /timestamping/issuers/none/validate", "PATCH /timestamping/issuers/none"),  # it shows what it changed
    },
    Permission.TIMESTAMPING_MANAGE: {
        *("POST /timestamping/issuers", "PATCH /timestamping/issuers/none", "DELETE /timestamping/issuers/none"),
        *("POST /timestamping/issuers/none/csr", "PUT /timestamping/issuers/none/certificate"),
        "POST /timestamping/issuers/none/renew",
    },
    Permission.ENROLLMENT_VIEW: {
        *("GET /enrollment/tenants", "GET /enrollment/endpoints", f"GET {_ENDPOINT}", "GET /enrollment/options/acme"),
        "GET /enrollment/scep/authorities",
        *("GET /enrollment/acme/accounts", f"GET {_ACME_ACCOUNT}", "GET /enrollment/acme/orders", f"GET {_ACME_ORDER}"),
        *("GET /enrollment/urls", f"GET {_ENDPOINT}/credentials", "GET /enrollment/requests", f"GET {_REQUEST}"),
    },
    Permission.ENROLLMENT_MANAGE: {
        *("POST /enrollment/tenants", "DELETE /enrollment/tenants/none", "POST /enrollment/endpoints"),
        *(f"PATCH {_ENDPOINT}", f"DELETE {_ENDPOINT}", f"POST {_ENDPOINT}/credentials"),
        *(f"DELETE {_ENDPOINT}/credentials/eab/none", "POST /enrollment/scep/endpoints/none/renew-authority"),
        f"POST {_ACME_ACCOUNT}/deactivate",
    },
    Permission.ENROLLMENT_APPROVE: {f"POST {_REQUEST}/approve", f"POST {_REQUEST}/reject"},
    Permission.VALIDATION_VIEW: {
        *("GET /validation/profiles", "GET /validation/responder", "GET /validation/database"),
        *("GET /validation/authorities", "GET /validation/authorities/none", "GET /validation/directories"),
        *("GET /validation/sources", "GET /validation/sources/none", "POST /validation/validate"),
        *("GET /validation/credentials", "GET /validation/signers", f"GET {_SIGNER}"),
        "GET /validation/signer-check",
    },
    Permission.VALIDATION_MANAGE: {
        *("POST /validation/authorities", "PUT /validation/authorities/none", "DELETE /validation/authorities/none"),
        *("POST /validation/authorities/none/reset-source", "POST /validation/sources/none/check"),
        *("POST /validation/sources/none/pull", "POST /validation/credentials", f"DELETE {_CREDENTIAL}"),
        *("POST /validation/credentials/issue", "POST /validation/credentials/enroll", f"POST {_CREDENTIAL}/renew"),
        *("PUT /validation/directories/none", "DELETE /validation/directories/none"),
        *("POST /validation/signers", f"DELETE {_SIGNER}", f"POST {_SIGNER}/certificate"),
        *(f"POST {_SIGNER}/request", f"POST {_SIGNER}/renew"),
    },
    Permission.PLATFORM_MANAGE: {
        *("GET /settings", "GET /settings/none", "PATCH /settings/none", "POST /audit/rotate-key"),
        *("GET /server-certificates", "PUT /server-certificates/none", "DELETE /server-certificates/none"),
    },
}

_CERTIFICATE = {"profile": "privatessl-tls-server", "subject": "CN=x"}
_SUBJECT = {"subject": "CN=x"}
_AUTHORITY = {"name": "none", "source": "crl", "profile": "CRLProfile"}
#: Bodies of the right form, for the operations that need one.
BODIES: dict[str, dict[str, Any]] = {
    "POST /me/password": {"new": "x"},
    "POST /users": {"name": "eve"},
    "POST /roles": {"name": "eve", "permissions": ["audit.view"]},
    "POST /tokens": {"name": "x"},
    "POST /organizations": {"name": "new"},
    f"POST {_ORGANIZATION}/cas": root_body(),
    f"PUT {_CA}/certificate": {"certificate": certificates.authority("Any").pem.decode()},
    f"PUT {_CA}/grants/none": {"right": "auditor"},
    f"POST {_CA}/certificates": _CERTIFICATE,
    f"POST {_CA}/certificates/preview": _CERTIFICATE,
    **{f"POST {_CA}/subjects/{action}": _SUBJECT for action in ("revoke", "hold", "unhold")},
    "POST /profiles": {"id": "x", "based_on": "privatessl-tls-server", "changes": {"title": "x"}},
    "POST /profiles/lint": {"declaration": "id: x"},
    "POST /timestamping/issuers": {"name": "new", "profile": {"policy": "1.2.3"}},
    "PUT /timestamping/issuers/none/certificate": {"certificate": certificates.authority("Any").pem.decode()},
    "POST /validation/authorities": _AUTHORITY,
    "POST /validation/validate": _AUTHORITY,
    "PUT /validation/authorities/none": _AUTHORITY,
    "POST /validation/authorities/none/reset-source": _AUTHORITY,
    "PUT /validation/directories/none": {"name": "none", "url": "ldap://directory.example"},
    "POST /validation/signers": {"kind": "delegated", "authority": "none"},
    "POST /validation/credentials/issue": {"ca": "none~none", "subject": "CN=x"},
    "POST /validation/credentials/enroll": {
        "url": "https://ca.example/.well-known/est/x", "subject": "CN=x", "reference": "x", "code": "x"
    },
    "POST /validation/credentials": {"pkcs12": "AAAA", "password": "x"},
    f"POST {_SIGNER}/certificate": {"certificate": certificates.authority("Any").pem.decode()},
    "POST /enrollment/tenants": {"name": "none"},
    "POST /enrollment/endpoints": {"protocol": "acme", "ca": "none~none", "profile": "none"},
    f"POST {_ENDPOINT}/credentials": {"kind": "eab"},
    "PATCH /profiles/none": {"changes": {}},
    "PATCH /settings/none": {"values": {}},
    "PUT /server-certificates/none": {"certificate": "x", "key": "x"},
    "POST /keys": {"key_algorithm": "P-256", "provider": "pkcs11:none"},
    "POST /keys/none/migrate": {"to": "software"},
    "POST /hsm/tokens": {"name": "x", "module": "none", "label": "x", "pin": "1234"},
    "PUT /hsm/tokens/none/pin": {"pin": "1234"},
    "POST /hsm/tokens/none/objects/adopt": {"id": "00", "label": "x"},
    "POST /declaration": {"declaration": "organizations: []"},
}


def operations(management: Management) -> set[str]:
    """Every operation that needs a login, on things that do not exist."""
    application = management_app(management.services, management.services.refusals)
    found = set()
    for path, methods in application.openapi()["paths"].items():
        if not path.startswith(PREFIX):  # mutual TLS identity has interfaces and tests of its own
            continue
        shown = path.removeprefix("/api/v1").replace("{ca}", "none~none").replace("{serial}", "AA")
        if path.startswith(f"{PREFIX}/validation/"):
            shown = re.sub(r"\{(signer_id|credential)\}", str(UUID(int=0)), shown)
        if path.startswith(f"{PREFIX}/enrollment/"):
            shown = shown.replace("{protocol}", "acme").replace("{id}", str(UUID(int=0))).replace("{kind}", "eab")
            shown = shown.replace("{credential}", "none")
        shown = re.sub(r"\{\w+\}", "none", shown.replace("{seq}", "1"))
        found |= {f"{method.upper()} {shown}" for method in methods}
    return found - {"POST /login", "POST /logout"}


async def ask(client: AsyncClient, operation: str) -> Response:
    method, path = operation.split(" ")
    body = BODIES.get(operation, {}) if method in ("POST", "PUT", "PATCH") else None
    return await client.request(method, path, json=body)


async def test_whoever_lacks_one_permission_is_refused_what_needs_it_and_nothing_else(management: Management) -> None:
    for number, permission in enumerate(sorted(NEEDED)):
        async with management.services.database.transaction() as tx:
            await create_role(tx, SYSTEM, f"role-{number}", ALL_PERMISSIONS - {permission})
        client = await management.user(f"user{number}", f"role-{number}")
        refused = set()
        for operation in sorted(operations(management)):
            answer = await ask(client, operation)
            if answer.status_code == 403 and answer.json()["code"] == "permission-missing":
                assert answer.json()["permission"] == permission
                refused.add(operation)
        assert refused == NEEDED[permission]


async def test_whoever_holds_no_permission_gets_nothing_but_his_own(management: Management) -> None:
    client = await management.user("nobody")
    admitted = set()
    for operation in sorted(operations(management)):
        answer = await ask(client, operation)
        if answer.status_code != 403:
            admitted.add(operation)
    assert admitted == FREE


async def test_nobody_gets_nothing(management: Management) -> None:
    async with management.client() as stranger:
        for operation in sorted(operations(management) - {"GET /platform/ca-certificate"}):
            answer = await ask(stranger, operation)
            assert answer.status_code == 401, operation


@pytest.mark.parametrize("permission", sorted(p for p in ALL_PERMISSIONS if not p.startswith("mtls.")))
def test_every_permission_is_good_for_something(permission: Permission) -> None:
    assert NEEDED[permission]
    assert not NEEDED[permission] & (FREE | EITHER)
