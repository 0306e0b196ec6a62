"""The tables of this package, one module per room."""

from intaglio.mtls.access import models as access
from intaglio.mtls.automation import models as automation
from intaglio.mtls.drills import models as drills
from intaglio.mtls.enrolment import models as enrolment
from intaglio.mtls.identities import models as identities
from intaglio.mtls.observation import alert_models as alerts
from intaglio.mtls.observation import models as observation
from intaglio.mtls.outbound import models as outbound
from intaglio.mtls.posture import models as posture
from intaglio.mtls.scenarios import models as scenarios

__all__ = [
    "access",
    "alerts",
    "automation",
    "drills",
    "enrolment",
    "identities",
    "observation",
    "outbound",
    "posture",
    "scenarios",
]
