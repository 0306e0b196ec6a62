"""Packages of Intaglio contain its web pages: this build hook of hatch builds them first, unless they already are."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class WebPages(BuildHookInterface):
    """Runs scripts/ensure-web; installations for development (editable) run it when they want the pages."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        builder = root / "scripts" / "ensure-web"
        pages = root / "src" / "intaglio" / "console" / "static"
        if version == "editable":
            return
        if builder.exists():
            subprocess.run([builder], check=True)
        if not (pages / "enroll" / "index.html").exists():
            raise FileNotFoundError(f"{pages} has no enrolment page; build it with scripts/ensure-web")
