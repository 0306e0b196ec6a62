"""What mutual TLS identity and the enrolment protocols need done by themselves, in the jobs process."""

from __future__ import annotations

import asyncio

from intaglio.enrollment.acme.upkeep import run_acme_upkeep
from intaglio.enrollment.cmp.upkeep import run_cmp_upkeep
from intaglio.enrollment.scep.upkeep import run_scep_upkeep
from intaglio.enrollment.upkeep import run_common_upkeep
from intaglio.mtls.access.upkeep import run_access_upkeep
from intaglio.mtls.automation.upkeep import run_automation_upkeep
from intaglio.mtls.drills.schedule import run_drill_upkeep
from intaglio.mtls.enrolment.upkeep import run_enrolment_upkeep
from intaglio.mtls.identities.unbound import run_identity_upkeep
from intaglio.mtls.observation.alert_upkeep import run_alert_upkeep
from intaglio.server.services import Services


async def run_mtls_upkeep(services: Services) -> None:
    """All of it, until cancelled."""
    async with asyncio.TaskGroup() as group:
        group.create_task(run_identity_upkeep(services.mtls))
        group.create_task(run_enrolment_upkeep(services.mtls))
        group.create_task(run_access_upkeep(services.database))
        group.create_task(run_automation_upkeep(services.database))
        group.create_task(run_alert_upkeep(services.mtls))
        group.create_task(run_drill_upkeep(services.mtls))


async def run_enrollment_upkeep(services: Services) -> None:
    """All of it, until cancelled."""
    async with asyncio.TaskGroup() as group:
        group.create_task(run_common_upkeep(services.database))
        group.create_task(run_acme_upkeep(services.enrollment))
        group.create_task(run_cmp_upkeep(services.enrollment))
        group.create_task(run_scep_upkeep(services.enrollment))
