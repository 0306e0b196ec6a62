"""What the master key seals in the tables of this package: whoever rotates it has all of this sealed anew."""

from __future__ import annotations

from intaglio.keystore.rewrap import SealedColumn
from intaglio.timestamping.models import timestamp_serial
from intaglio.timestamping.numbering import purpose_of

SEALED_COLUMNS = (SealedColumn(timestamp_serial, timestamp_serial.c.id, timestamp_serial.c.sealed, purpose_of),)
