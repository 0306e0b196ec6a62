"""The management API of one process, asked without a network."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

from intaglio.authority.context import Authority
from intaglio.core.principal import SYSTEM
from intaglio.core.secrets import MasterKey
from intaglio.core.settings import Settings
from intaglio.identity import api_tokens, users
from intaglio.identity.roles import install_built_in_roles
from intaglio.server.management.app import management_app
from intaglio.server.services import Services

PASSWORD = SecretStr("correct horse battery staple")


class Management:
    """Asks as the operator of the host (the unix socket), or as a user with a token."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self._app = management_app(services, services.refusals)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if b"x-test-peer" in dict(scope["headers"]):
            scope["extensions"] = {"peer": {"pid": 1, "uid": 0, "gid": 0}}
        await self._app(scope, receive, send)

    def client(self, token: str | None = None, *, operator: bool = False) -> httpx.AsyncClient:
        """A client; without ``token`` and ``operator`` it is nobody."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        headers |= {"x-test-peer": "root"} if operator else {}
        transport = httpx.ASGITransport(app=self, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://management/api/v1", headers=headers)

    async def user(self, name: str, *roles: str) -> httpx.AsyncClient:
        """A new user with these roles, and a client in his name."""
        async with self.services.database.transaction() as tx:
            await users.create_user(tx, SYSTEM, name, roles=roles, password=PASSWORD)
        answer = await self.client().post("/login", json={"name": name, "password": PASSWORD.get_secret_value()})
        return self.client(answer.json()["token"])

    async def token(self, user: str, lifetime: timedelta = timedelta(days=1)) -> str:
        """An API token of a user."""
        async with self.services.database.transaction() as tx:
            from intaglio.core.principal import operator

            made = await api_tokens.create_token(tx, operator("root"), "test", user=user, lifetime=lifetime)
        return made.secret.get_secret_value()


@asynccontextmanager
async def management(database_url: str, master_key: MasterKey, folder: Path) -> AsyncIterator[Management]:
    """The API over a database, started and stopped."""
    settings = Settings(data_dir=folder, hostname="pki.example", public_url="http://pki.example")
    services = Services(settings, database_url, master_key=master_key, make_authority=Authority)
    await services.start()
    try:
        async with services.database.transaction() as tx:
            await install_built_in_roles(tx)
        yield Management(services)
    finally:
        await services.stop()


def root_body(name: str = "root", **changes: Any) -> dict[str, Any]:
    """A root CA as the console would ask for it."""
    body = {
        "kind": "root",
        "name": name,
        "key_algorithm": "P-256",
        "subject": f"CN={name},O=Demo",
        "profiles": ["privatessl-tls-server"],
        "administrators": ["alice"],
    }
    return {**body, **changes}


def issuing_body(name: str = "issuing", **changes: Any) -> dict[str, Any]:
    """An issuing CA below ``root``."""
    return root_body(name, kind="issuing", issuer="root", **changes)
