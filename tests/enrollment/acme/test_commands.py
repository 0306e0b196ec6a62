"""The commands that are shown for an endpoint are ones that their programs understand."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tests.enrollment.acme.conftest import DIRECTORY, House
from tests.support.programs import run

from intaglio.enrollment.urls import Bases, Command, urls_of

BASES = Bases("https://acme.example", "http://acme.example")


async def shown(house: House, **options: object) -> dict[str, Command]:
    made = await house.endpoint(options=options)
    return {command.title: command for command in urls_of(made, BASES).commands}


@pytest.mark.parametrize("policy", ["off", "required"])
async def test_every_client_is_told_the_directory_and_the_external_account(house: House, policy: str) -> None:
    commands = await shown(house, external_account=policy)
    assert len(commands) >= 10
    for command in commands.values():
        text = "\n".join(command.lines)
        assert command.url == DIRECTORY
        assert DIRECTORY in text
        if command.title != "Look at the directory":
            assert ("KEY" in text or "intaglio-eab" in text) == (policy == "required"), text


@pytest.mark.parametrize("policy", ["off", "required"])
async def test_the_manifest_for_cert_manager_is_one(house: House, policy: str) -> None:
    command = (await shown(house, external_account=policy))["cert-manager (kubectl apply -f -)"]
    issuer, certificate = yaml.safe_load_all("\n".join(command.lines))
    assert (issuer["apiVersion"], issuer["kind"]) == ("cert-manager.io/v1", "ClusterIssuer")
    acme = issuer["spec"]["acme"]
    assert acme["server"] == DIRECTORY
    assert acme["privateKeySecretRef"]["name"]
    assert acme["solvers"][0]["http01"]["ingress"]["ingressClassName"]
    assert ("externalAccountBinding" in acme) == (policy == "required")
    assert certificate["spec"]["issuerRef"] == {"kind": "ClusterIssuer", "name": issuer["metadata"]["name"]}


@pytest.mark.parametrize("policy", ["off", "required"])
async def test_the_configuration_for_caddy_is_one(house: House, policy: str, tmp_path: Path) -> None:
    command = (await shown(house, external_account=policy))["Caddy (Caddyfile)"]
    (tmp_path / "Caddyfile").write_text("\n".join(command.lines))
    run("caddy", "adapt", "--adapter", "caddyfile", "--config", tmp_path / "Caddyfile")
