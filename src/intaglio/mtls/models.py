"""The tables of this package, one module per room."""

from intaglio.mtls.access import models as access
from intaglio.mtls.enrolment import models as enrolment
from intaglio.mtls.identities import models as identities
from intaglio.mtls.observation import models as observation
from intaglio.mtls.scenarios import models as scenarios

__all__ = ["access", "enrolment", "identities", "observation", "scenarios"]
