"""Certificates of identities: what they say comes from the registry, and nobody gets one without a binding."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from sqlalchemy import func, select
from tests.support.authority import OPERATOR, openssl, verify_chain
from tests.support.identities import hours, issue, make_request, make_service, make_user

from intaglio.core.errors import Forbidden, IntaglioError, Refused, StateConflict
from intaglio.core.principal import Principal
from intaglio.db.listing import ListQuery
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities import bindings, models
from intaglio.mtls.identities.attributes import read_identity
from intaglio.mtls.identities.issuing import issue_identity
from intaglio.mtls.identities.registry import NewIdentity, add_identity
from intaglio.mtls.identities.revoking import revoke_binding, suspend_identity
from intaglio.mtls.identities.values import Channel, Kind, TrustDomain


async def test_certificate_of_a_service_says_what_is_registered(
    mtls: Mtls, trust_domain: TrustDomain, tmp_path: Path
) -> None:
    service = await make_service(mtls, dns_names=["payments.prod.svc"])
    issued = await issue(mtls, service)
    verify_chain(tmp_path, [issued.certificate, *issued.chain])
    text = openssl("x509", "-inform", "DER", "-text", "-noout", stdin=issued.certificate)
    assert "Subject: O = demo, OU = finance, CN = payments" in text
    assert "URI:spiffe://prod.example/env/prod/team/finance/svc/payments, DNS:payments.prod.svc" in text
    assert "X509v3 Key Usage: critical\n                Digital Signature\n" in text
    assert "TLS Web Client Authentication, TLS Web Server Authentication" in text
    found = read_identity(issued.certificate)
    assert (found.kind, found.name, found.team, found.environment) == (Kind.SERVICE, "payments", "finance", "prod")
    assert (found.service, found.roles, found.version) == ("payments", ("reader",), "1.4.2")
    assert found.uri == service.uri
