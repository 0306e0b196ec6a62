"""What the master key seals in the tables of this package: whoever rotates it has all of this sealed anew."""

from __future__ import annotations

from intaglio.keystore.rewrap import SealedColumn
from intaglio.mtls.enrolment import models as enrolment
from intaglio.mtls.enrolment import stored_secrets
from intaglio.mtls.identities import bindings, secrets
from intaglio.mtls.identities import models as identities

SEALED_COLUMNS = (
    SealedColumn(identities.secret, identities.secret.c.name, identities.secret.c.sealed, secrets.purpose_of),
    SealedColumn(identities.binding, identities.binding.c.id, identities.binding.c.sealed, bindings.purpose_of),
    SealedColumn(enrolment.secret, enrolment.secret.c.name, enrolment.secret.c.sealed, stored_secrets.purpose_of),
)
