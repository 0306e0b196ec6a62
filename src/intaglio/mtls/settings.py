"""The groups of live settings of this package, one per room. Importing this makes them known."""

from intaglio.mtls.access.settings import AccessSettings
from intaglio.mtls.automation.settings import AutomationSettings
from intaglio.mtls.drills.settings import DrillSettings
from intaglio.mtls.enrolment.settings import EnrolmentSettings, MailSettings
from intaglio.mtls.observation.alert_settings import AlertSettings

__all__ = [
    "AccessSettings",
    "AlertSettings",
    "AutomationSettings",
    "DrillSettings",
    "EnrolmentSettings",
    "MailSettings",
]
