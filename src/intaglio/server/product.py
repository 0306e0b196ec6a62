"""The product: which application answers where, and what runs beside them."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Sequence

from starlette.types import ASGIApp

from intaglio.audit.sealing import Sealer
from intaglio.authority.context import Authority
from intaglio.authority.upkeep import run_upkeep
from intaglio.core.errors import IntaglioError
from intaglio.core.logging import get_logger, set_log_level
from intaglio.core.settings import Settings
from intaglio.gateway.api import gateway_app
from intaglio.gateway.errors import catalogue_entry, error_body
from intaglio.keystore.audit_key import audit_signer
from intaglio.mtls.access.endpoint import AccessApp
from intaglio.mtls.enrolment.policy import anchors_of
from intaglio.mtls.identities.domains import load_all
from intaglio.platform import live_settings, server_identities
from intaglio.platform.live_settings import Logging
from intaglio.server import ca_health, enrollment, pages, status_health, timestamping
from intaglio.server.client_rates import RateLimited
from intaglio.server.composition import Application, Composition
from intaglio.server.deferred import DeferredApp
from intaglio.server.health import HealthRegistry
from intaglio.server.management.app import management_app
from intaglio.server.platform_identity import ensure_identity
from intaglio.server.public_listener import PublicListener
from intaglio.server.services import Services
from intaglio.transport.contexts import ServerIdentity

log = get_logger(__name__)


def compose(settings: Settings) -> Composition:
    """Everything a server of this product is made of."""
    return Composition(
        applications={
            "public": Application(_public),
            "public_tls": Application(_public),
            "console": Application(_management),
            "enroll": Application(_enroll),
            "gateway": Application(_gateway, _render_for_gateway),
            "access": Application(_access),
            "admin": Application(_management),
        },
        make_authority=Authority,
        identity=_identity,
        ensure_identity=ensure_identity,
        trust=_trust,
        jobs=_jobs,
        health=_health,
    )


@functools.cache
def _public(services: Services) -> ASGIApp:
    """One application for both of its listeners."""
    app, rate = PublicListener(services), services.settings.public_rate
    return RateLimited(app, rate) if rate else app


@functools.cache
def _management(services: Services) -> ASGIApp:
    """One application for both of its listeners."""
    _follow_live_settings(services)
    app = management_app(services, services.refusals)
    app.mount("/enroll", pages.enrolment(services))
    return app


def _access(services: Services) -> ASGIApp:
    return AccessApp(services.mtls)


def _gateway(services: Services) -> ASGIApp:
    return gateway_app(services.authority, refusals=services.refusals, is_current=lambda: services.watch.current)


def _enroll(services: Services) -> ASGIApp:
    """Paths of the enrolment protocols are theirs; whatever else is asked here is about identities."""

    def make() -> ASGIApp:
        from intaglio.mtls.automation.routes import automation_routes
        from intaglio.mtls.identities.spiffe import spiffe_routes
        from intaglio.server.enrolment_listener import enrolment_app

        return enrolment_app(services.mtls, [*spiffe_routes(services.mtls), *automation_routes(services.mtls)])

    return enrollment.WithProtocols(services, DeferredApp(make))


def _render_for_gateway(error: IntaglioError) -> tuple[bytes, bytes]:
    return b"application/json", json.dumps(error_body(error, catalogue_entry(error))).encode()


def _health(services: Services, registry: HealthRegistry) -> None:
    ca_health.register(services, registry)
    if timestamping.is_wanted(services.settings):
        timestamping.register(services.timestamping, registry)
    status_health.register(services, registry)
    if enrollment.is_wanted(services.settings):
        enrollment.register(services, registry)


async def _identity(services: Services, listener: str) -> ServerIdentity | None:
    async with services.database.read() as view:
        found = await server_identities.load(view, services.master_key, listener.removesuffix("_tls"))
    return None if found is None else ServerIdentity(found.chain, found.key)


async def _trust(services: Services, listener: str) -> Sequence[bytes]:
    """The client CAs of all organizations, with their earlier keys too: what those issued may still be valid.

    For enrolment, those of all trust domains and those whose certificates an EST endpoint takes: clients choose by
    these names. What such a certificate is worth is for each application to judge.
    """
    if listener not in ("gateway", "enroll"):
        return ()
    snapshot = await services.authority.snapshot()
    if listener == "enroll":
        async with services.database.read() as view:
            domains = anchors_of(snapshot, [each for each in await load_all(view) if each.state != "retired"])
            return [*domains, *await enrollment.client_anchors(view, snapshot)]
    clients = [ca for ca in snapshot.cas.values() if ca.kind == "client" and ca.state != "deleted"]
    return [key.certificate.der for ca in clients for key in ca.keys.values() if key.certificate is not None]


async def _jobs(services: Services) -> None:
    """CRLs, OCSP signers and clean-up; audit seals. Runs until cancelled."""
    from intaglio.server.upkeep import run_enrollment_upkeep, run_mtls_upkeep  # what serving processes have no use for
    from intaglio.timestamping.upkeep import run_timestamping_upkeep
    from intaglio.validation.authorities.credential_upkeep import run_credential_upkeep
    from intaglio.validation.signers.upkeep import run_signer_upkeep
    from intaglio.validation.sources.upkeep import run_source_upkeep

    _follow_live_settings(services)
    sealer = Sealer(services.database, lambda: audit_signer(services.database, services.keystore))
    stop = asyncio.Event()
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(run_upkeep(services.authority, services.watch, stop))
            group.create_task(sealer.run())
            group.create_task(run_mtls_upkeep(services))
            group.create_task(run_enrollment_upkeep(services))
            group.create_task(run_timestamping_upkeep(services.timestamps))
            group.create_task(run_source_upkeep(services.validation))
            group.create_task(run_credential_upkeep(services.validation))
            group.create_task(run_signer_upkeep(services.validation))
    finally:
        stop.set()


def _follow_live_settings(services: Services) -> None:
    async def apply() -> None:
        try:
            async with services.database.read() as view:
                level = (await live_settings.current(view, Logging)).level
        except IntaglioError as error:
            log.warning("the log level stays as it is", reason=str(error))
        else:
            set_log_level(level or services.settings.log_level)

    services.on_config(apply)
