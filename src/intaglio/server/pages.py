"""The web pages of the console listener."""

from __future__ import annotations

from starlette.types import ASGIApp

from intaglio.console.static import enrolment_page
from intaglio.mtls.enrolment.policy import access_origin
from intaglio.mtls.enrolment.settings import EnrolmentSettings
from intaglio.platform import live_settings
from intaglio.server.services import Services


def enrolment(services: Services) -> ASGIApp:
    """The enrolment page. It may speak to the mTLS host, wherever the live settings say that this is."""
    settings = EnrolmentSettings()

    async def follow() -> None:
        nonlocal settings
        async with services.database.read() as view:
            settings = await live_settings.current(view, EnrolmentSettings)

    services.on_config(follow)
    return enrolment_page(lambda host: access_origin(services.settings, settings, host))
