"""What the master key seals in the tables of this package: whoever rotates it has all of this sealed anew."""

from __future__ import annotations

from intaglio.validation.authorities import directories

SEALED_COLUMNS = (directories.SEALED,)
