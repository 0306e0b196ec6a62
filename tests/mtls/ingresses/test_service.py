"""Rendering for registered ingresses."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from tests.support.authority import OPERATOR
from tests.support.identities import make_domain

from intaglio.authority.crls.issue import issue_if_due
from intaglio.authority.crls.schedule import due_crls
from intaglio.core.errors import Forbidden, InvalidInput, NotFound
from intaglio.core.principal import Principal
from intaglio.mtls.access.ingress_values import IngressChanges, NewIngress
from intaglio.mtls.access.ingresses import create_ingress, edit_ingress, get_ingress
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities.authorities import NewCaWish
from intaglio.mtls.identities.domains import get_domain
from intaglio.mtls.identities.rotation import give_ca
from intaglio.mtls.identities.values import TrustDomain
from intaglio.mtls.ingresses.plan import Layout
from intaglio.mtls.ingresses.service import (
    check_configuration,
    ingress_latency,
    look_at_rendering,
    render_ingress,
    trusted_in,
)
from intaglio.mtls.posture.state import _verification, ingresses_of
from intaglio.x509.certificates import read_certificates


async def add(mtls: Mtls, domain: str, name: str = "edge", **values: object) -> str:
    wanted = NewIngress(name, "demo", domain, revocation_source="crl", mode="enforce")
    made = await create_ingress(mtls, OPERATOR, replace(wanted, **values))  # type: ignore[arg-type]
    return made.ingress.full_name


async def issue_crls(mtls: Mtls) -> None:
    """What the jobs process does once a second."""
    snapshot = await mtls.authority.current()
    async with mtls.database.read() as view:
        due = await due_crls(view, snapshot)
    for each in due:
        await issue_if_due(mtls.authority, each)


async def test_bundle_and_crls_are_those_of_the_trust_domain(mtls: Mtls, trust_domain: TrustDomain) -> None:
    await make_domain(mtls, "dev.example", "dev")
    await issue_crls(mtls)
    made = await render_ingress(mtls, OPERATOR, await add(mtls, trust_domain.name), Layout())
    certificates = read_certificates(made.file("trust.pem").text)
    expected = await trusted_in(mtls, OPERATOR, trust_domain.name)
    assert {each.fingerprint for each in certificates} == {each.fingerprint for each in expected}
    assert made.file("crls.pem").text.count("BEGIN X509 CRL") == len(certificates) == 2
    assert made.file("refresh").text.count("/crl/demo/") == 2


async def test_during_a_rotation_old_and_new_ca_count(mtls: Mtls, trust_domain: TrustDomain) -> None:
    name = await add(mtls, trust_domain.name)
    await give_ca(mtls, OPERATOR, trust_domain.name, new_ca=NewCaWish())
    await issue_crls(mtls)
    made = await render_ingress(mtls, OPERATOR, name, Layout())
    assert made.file("crls.pem").text.count("BEGIN X509 CRL") == 4
    assert made.latency.in_time


async def test_the_bound_is_that_of_the_settings(mtls: Mtls, trust_domain: TrustDomain) -> None:
    await issue_crls(mtls)
    quick = await ingress_latency(mtls, OPERATOR, await add(mtls, trust_domain.name))
    slow = await ingress_latency(mtls, OPERATOR, await add(mtls, trust_domain.name, "slow", refresh_seconds=300))
    assert quick.in_time
    assert not slow.in_time


async def test_a_gateway_of_our_own_has_a_bound_too(mtls: Mtls, trust_domain: TrustDomain) -> None:
    name = await add(mtls, trust_domain.name, type="gateway", revocation_source="live")
    assert (await ingress_latency(mtls, OPERATOR, name)).in_time


async def test_who_may_not_see_an_ingress_cannot_render_it(mtls: Mtls, trust_domain: TrustDomain) -> None:
    name = await add(mtls, trust_domain.name)
    with pytest.raises((Forbidden, NotFound)):
        await render_ingress(mtls, Principal("user", "mallory"), name, Layout())
    with pytest.raises(NotFound):
        await render_ingress(mtls, OPERATOR, "demo~nothing", Layout())


async def test_a_configuration_is_checked_for_whom_may_look_and_against_the_trust_domain(
    mtls: Mtls, trust_domain: TrustDomain
) -> None:
    text = "server { listen 443 ssl; ssl_certificate a; ssl_verify_client optional; }"
    foreign = await make_domain(mtls, "dev.example", "dev")
    bundle = "".join(each.pem for each in await trusted_in(mtls, OPERATOR, foreign.name))
    found = await check_configuration(mtls, OPERATOR, text, bundle=bundle, domain=trust_domain.name)
    assert {"client-certificate-optional", "wrong-bundle"} <= {finding.rule for finding in found.findings}
    with pytest.raises(Forbidden):
        await check_configuration(mtls, Principal("user", "mallory"), text)
    with pytest.raises(InvalidInput):
        await check_configuration(mtls, OPERATOR, text, bundle=bundle)


async def test_rendering_is_stale_when_other_cas_count_or_settings_changed(
    mtls: Mtls, trust_domain: TrustDomain
) -> None:
    name = await add(mtls, trust_domain.name)
    await issue_crls(mtls)
    assert (await look_at_rendering(mtls, OPERATOR, name)).at is None
    await render_ingress(mtls, OPERATOR, name, Layout())
    fresh = await look_at_rendering(mtls, OPERATOR, name)
    assert fresh.at is not None
    assert fresh.why == ()

    await give_ca(mtls, OPERATOR, trust_domain.name, new_ca=NewCaWish())
    await issue_crls(mtls)
    (why,) = (await look_at_rendering(mtls, OPERATOR, name)).why
    assert "lacks 2 CA certificates" in why
    async with mtls.database.read() as view:
        organization = (await get_ingress(mtls, OPERATOR, name)).organization_id
        (ingress,) = await ingresses_of(view, organization)
    snapshot = await mtls.authority.current()
    domain = await get_domain(mtls, OPERATOR, trust_domain.name)
    async with mtls.database.read() as view:
        trouble, _ = await _verification(mtls, view, snapshot, ingress, domain)
    assert why in trouble

    await render_ingress(mtls, OPERATOR, name, Layout())
    assert (await look_at_rendering(mtls, OPERATOR, name)).why == ()
    await edit_ingress(mtls, OPERATOR, name, IngressChanges(ip_rule=["10.0.0.0/8"]))
    assert "settings were changed" in (await look_at_rendering(mtls, OPERATOR, name)).why[0]
    with pytest.raises((Forbidden, NotFound)):
        await look_at_rendering(mtls, Principal("user", "mallory"), name)


@pytest.mark.parametrize("type", ["nginx", "haproxy", "caddy", "envoy", "traefik"])
async def test_readme_names_every_file_that_the_configuration_reads(
    mtls: Mtls, trust_domain: TrustDomain, type: str
) -> None:
    name = await add(mtls, trust_domain.name, type=type, revocation_source="live")
    made = await render_ingress(mtls, OPERATOR, name, Layout(decisions="https://pki.example:8181"))
    rendered = {file.name for file in made.files}
    text = "".join(file.text for file in made.files if file.name != "README.md")
    read = set(re.findall(re.escape(made.folder) + r"/([A-Za-z0-9._-]+)", text)) - rendered
    readme = made.file("README.md").text
    assert "decisions-ca.pem" in read
    for each in read - {"access.log", "admin.sock"}:
        assert each in readme, each
