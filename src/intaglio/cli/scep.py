"""`intaglio scep`: what SCEP needs beside endpoints."""

from __future__ import annotations

from intaglio.cli import lazy

COMMANDS: lazy.Table = {"ra": ("scep_ra", "Registration authorities: what messages are encrypted for.")}

app = lazy.noun(COMMANDS, "SCEP: its registration authorities. Endpoints and challenges: intaglio enroll.")
