"""What the master key seals in the tables of this package: whoever rotates it has all of this sealed anew."""

from __future__ import annotations

from intaglio.enrollment import credentials, models
from intaglio.keystore.rewrap import SealedColumn

SEALED_COLUMNS = (
    SealedColumn(models.credential, models.credential.c.id, models.credential.c.sealed, credentials.purpose_of),
    SealedColumn(models.secret, models.secret.c.name, models.secret.c.sealed, credentials.secret_purpose),
)
