"""Every table of every package. Imported by whoever compares the catalogue with a database."""

from intaglio.audit import models as audit
from intaglio.authority import models as authority
from intaglio.db import journal
from intaglio.enrollment import models as enrollment
from intaglio.enrollment.acme import models as acme
from intaglio.enrollment.cmp import models as cmp
from intaglio.enrollment.scep import models as scep
from intaglio.identity import models as identity
from intaglio.keystore import models as keystore
from intaglio.mtls import models as mtls
from intaglio.platform import models as platform
from intaglio.timestamping import models as timestamping
from intaglio.validation import models as validation

__all__ = [
    "acme",
    "audit",
    "authority",
    "cmp",
    "enrollment",
    "identity",
    "journal",
    "keystore",
    "mtls",
    "platform",
    "scep",
    "timestamping",
    "validation",
]
