"""Trust edges, the design document that is made of them, CAs kept elsewhere and cert-manager's resources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from tests.support.authority import OPERATOR, make_hierarchy, openssl, tenant, verify_chain
from tests.support.identities import hours, make_domain, make_request, make_service, make_user

from intaglio.core.errors import Forbidden, IntaglioError, InvalidInput, NotFound, Refused, StateConflict
from intaglio.core.principal import Permission, Principal
from intaglio.db.listing import ListQuery
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities.cert_manager import CertManagerOptions, resources
from intaglio.mtls.identities.design import as_html, as_markdown, generate_design, get_design
from intaglio.mtls.identities.edges import (
    approve_edge,
    list_edges,
    propose_edge,
    remove_edge,
    services_without_edges,
)
from intaglio.mtls.identities.subordinates import certify_subordinate
from intaglio.mtls.identities.values import TrustDomain

EVERYTHING = frozenset(Permission)


def administrator(name: str) -> Principal:
    return Principal("user", name, EVERYTHING)


async def test_edge_is_proposed_by_one_and_approved_by_another(mtls: Mtls, trust_domain: TrustDomain) -> None:
    service = await make_service(mtls)
    async with mtls.database.read() as view:
        assert await services_without_edges(view) == [service]
    edge = await propose_edge(mtls, administrator("carol"), service.id, "prod.example", reason="Orders calls it")
    assert (edge.state, edge.service, edge.trusted_domain) == ("proposed", "payments", "prod.example")
    with pytest.raises(Forbidden) as refusal:
        await approve_edge(mtls, administrator("carol"), edge.id)
    assert refusal.value.code == "own-proposal"
    approved = await approve_edge(mtls, administrator("dave"), edge.id)
    assert (approved.state, approved.approved_by) == ("approved", "dave")
    async with mtls.database.read() as view:
        assert await services_without_edges(view) == []
    with pytest.raises(StateConflict):
        await approve_edge(mtls, administrator("erin"), edge.id)
    with pytest.raises(StateConflict) as conflict:
        await propose_edge(mtls, OPERATOR, service.id, "prod.example")
    assert conflict.value.code == "edge-exists"
    await remove_edge(mtls, OPERATOR, edge.id)
    assert not (await list_edges(mtls, OPERATOR, ListQuery())).edges


async def test_edge_to_another_environment_is_refused(mtls: Mtls, trust_domain: TrustDomain) -> None:
    await make_domain(mtls, "dev.example", "dev")
    service = await make_service(mtls)
    with pytest.raises(StateConflict) as refusal:
        await propose_edge(mtls, OPERATOR, service.id, "dev.example")
    assert refusal.value.code == "foreign-environment"
    with pytest.raises(InvalidInput):
        await propose_edge(mtls, OPERATOR, service.id, "prod.example", cas=["demo~id-dev"])
    with pytest.raises(InvalidInput):
        await propose_edge(mtls, OPERATOR, (await make_user(mtls)).id, "prod.example")
    edge = await propose_edge(mtls, OPERATOR, service.id, "prod.example", cas=["demo~id-prod"])
    assert edge.cas == ("demo~id-prod",)


async def test_edges_of_others_are_unknown(mtls: Mtls, trust_domain: TrustDomain) -> None:
    edge = await propose_edge(mtls, OPERATOR, (await make_service(mtls)).id, "prod.example")
    stranger = tenant("mallory")
    assert not (await list_edges(mtls, stranger, ListQuery())).edges
    for attempt in (approve_edge(mtls, stranger, edge.id), remove_edge(mtls, stranger, edge.id)):
        with pytest.raises(NotFound):
            await attempt


async def test_design_document_shows_the_data_and_says_when_it_no_longer_does(
    mtls: Mtls, trust_domain: TrustDomain
) -> None:
    service = await make_service(mtls)
    first = await generate_design(mtls, OPERATOR, "demo")
    assert (first.version, first.current) == (1, True)
    assert (await generate_design(mtls, OPERATOR, "demo")).version == 1
    edge = await propose_edge(mtls, OPERATOR, service.id, "prod.example", reason="calls | <script>alert(1)</script>")
    assert not (await get_design(mtls, OPERATOR, "demo")).current
    second = await generate_design(mtls, OPERATOR, "demo")
    assert second.version == 2
    await approve_edge(mtls, OPERATOR, edge.id)
    third = await generate_design(mtls, OPERATOR, "demo")
    text = as_markdown(third)
    fingerprint = (await mtls.authority.current()).ca("demo~id-prod").certificate.fingerprint.hex()
    assert fingerprint in text
    assert "| payments | prod.example | prod.example | all | approved |" in text
    assert "| service | 1 | PT72H |" in text
    page = as_html(third)
    assert "<script>" not in page
    assert "calls | &lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert (await get_design(mtls, OPERATOR, "demo", 1)).content == first.content
    with pytest.raises(NotFound):
        await get_design(mtls, OPERATOR, "demo", 99)
    with pytest.raises(NotFound):
        await get_design(mtls, tenant("mallory"), "demo")


async def test_ca_kept_elsewhere_is_limited_to_the_trust_domain(
    mtls: Mtls, trust_domain: TrustDomain, tmp_path: Path
) -> None:
    made = await certify_subordinate(mtls, OPERATOR, "prod.example", make_request(), purpose="cert-manager of c7")
    verify_chain(tmp_path, [made.certificate, *made.chain])
    text = openssl("x509", "-inform", "DER", "-noout", "-text", stdin=made.certificate)
    assert "CA:TRUE, pathlen:0" in text
    assert "URI:prod.example" in text
    assert "CN = prod cert-manager of c7" in text
    certificate = x509.load_der_x509_certificate(made.certificate)
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc <= hours(90 * 24 + 1)
    for options, kind in (
        ({"purpose": ""}, InvalidInput),
        ({"purpose": "x", "lifetime": hours(24 * 400)}, InvalidInput),
    ):
        with pytest.raises(kind):
            await certify_subordinate(mtls, OPERATOR, "prod.example", make_request(), **options)  # type: ignore[arg-type]
    reader = Principal("operator", "x", frozenset({Permission.MTLS_IDENTITIES, Permission.MTLS_VIEW}))
    with pytest.raises(Forbidden):
        await certify_subordinate(mtls, reader, "prod.example", make_request(), purpose="x")


async def test_root_that_others_share_certifies_no_ca_kept_elsewhere(mtls: Mtls, organization: str) -> None:
    await make_hierarchy(mtls.authority)
    await make_domain(mtls, new_ca=None, issuing_ca="demo~issuing", anchor="issuing")
    with pytest.raises(Refused) as refusal:
        await certify_subordinate(mtls, OPERATOR, "prod.example", make_request(), purpose="x")
    assert refusal.value.code == "ca-not-suitable"


def options(**changes: Any) -> CertManagerOptions:
    values: dict[str, Any] = {"issuer": "vault", "server": "https://pki.example:1443", "ca_bundle": "PEM"}
    return CertManagerOptions(**(values | changes))


@pytest.mark.parametrize("issuer", ["vault", "acme", "ca"])
async def test_cert_manager_resources_say_what_is_registered(
    mtls: Mtls, trust_domain: TrustDomain, issuer: str
) -> None:
    service = await make_service(mtls, dns_names=["payments.shop.svc"])
    issuing, certificate = yaml.safe_load_all(resources(service, options(issuer=issuer, namespace="shop")))
    assert (issuing["kind"], issuing["metadata"]["namespace"]) == ("Issuer", "shop")
    assert list(issuing["spec"]) == [issuer]
    spec = certificate["spec"]
    assert certificate["apiVersion"] == "cert-manager.io/v1"
    assert (spec["secretName"], spec["duration"], spec["renewBefore"]) == ("payments-tls", "24h", "8h")
    assert spec["dnsNames"] == ["payments.shop.svc"]
    assert spec["issuerRef"] == {"name": "internal-ca", "kind": "Issuer", "group": "cert-manager.io"}
    assert ("uris" in spec) == (issuer != "acme")


async def test_cert_manager_resources_refuse_what_cannot_be(mtls: Mtls, trust_domain: TrustDomain) -> None:
    service, user = await make_service(mtls), await make_user(mtls)
    with pytest.raises(InvalidInput):
        resources(user, options())
    for wrong in ({"namespace": "a b"}, {"secret": "A"}, {"issuer_name": "x: y"}, {"lifetime": hours(73)}):
        with pytest.raises(IntaglioError):
            resources(service, options(**wrong))
    [issuing, _] = yaml.safe_load_all(resources(service, options(cluster=True)))
    assert issuing["kind"] == "ClusterIssuer"
    assert "namespace" not in issuing["metadata"]


