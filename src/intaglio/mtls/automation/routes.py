"""The routes of automatic issuance on the enrolment listener, where clients come with their certificates."""

from __future__ import annotations

from starlette.routing import BaseRoute, Mount, Route

from intaglio.mtls.automation.issuer_keys import IssuerKeys
from intaglio.mtls.automation.sign_api import SignEndpoint
from intaglio.mtls.automation.vault.app import PREFIX, vault_app
from intaglio.mtls.context import Mtls


def automation_routes(mtls: Mtls) -> list[BaseRoute]:
    """What agents, clients of Vault and pipelines ask; the application around them answers refusals of the first."""
    keys = IssuerKeys()
    return [
        Route("/mtls/v1/sign", SignEndpoint(mtls, keys).answer, methods=["POST"]),
        Mount(PREFIX, app=vault_app(mtls, keys)),
    ]
