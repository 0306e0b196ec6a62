"""`intaglio scep`: what SCEP needs beside endpoints."""

from __future__ import annotations

from intaglio.cli import lazy

COMMANDS: lazy.Table = {
    "ra": ("scep_ra", "Registration authorities: what messages are encrypted for."),
    "apple-profile": ("scep_apple", "Write a configuration profile for Apple devices."),
}

app = lazy.noun(
    COMMANDS, "SCEP: its registration authorities, Apple devices. Endpoints and challenges: intaglio enroll."
)
