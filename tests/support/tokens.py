"""Tokens of SoftHSM 2: real PKCS #11, no hardware. Every test has a folder of its own with the tokens it wants."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from intaglio.core.settings import Settings
from intaglio.keystore.pkcs11.modules import PRESETS, Module, require
from intaglio.keystore.pkcs11.token import Locator, TokenSettings

PIN, SO_PIN = "4711", "47110815"


class SoftHsm:
    """SoftHSM with its tokens below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "softhsm"
        self.tokens = self.folder / "tokens"
        self.configuration = self.folder / "softhsm2.conf"
        self.tokens.mkdir(parents=True)
        self.configuration.write_text(
            f"directories.tokendir = {self.tokens}\nobjectstore.backend = file\nlog.level = ERROR\n"
        )

    @property
    def library(self) -> Path:
        return next(Path(each) for each in PRESETS["softhsm2"].paths if Path(each).is_file())

    @property
    def environment(self) -> dict[str, str]:
        return {"SOFTHSM2_CONF": str(self.configuration)}

    @property
    def module(self) -> Module:
        """The library, led to these tokens."""
        return require(Settings(pkcs11_environment=self.environment), "softhsm2")

    def make(self, label: str) -> str:
        """Initialize a token; returns its serial number."""
        said = self.run("softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", SO_PIN)
        slot = re.search(r"slot (\d+)", said)
        assert slot is not None, said
        shown = self.run("softhsm2-util", "--show-slots")
        found = re.search(rf"Slot {slot[1]}\n.*?Serial number:\s*(\w+)", shown, re.S)
        assert found is not None
        return found[1]

    def settings(self, label: str, **changes: object) -> TokenSettings:
        """How one of the tokens is used, named like its label."""
        values: Mapping[str, object] = {"pin": PIN, "timeout": 10.0, **changes}
        locator = changes.get("locator") or Locator(label=label)
        return TokenSettings(**{**values, "name": label, "module": self.module, "locator": locator})  # type: ignore[arg-type]

    def pkcs11_tool(self, label: str, *arguments: str) -> str:
        """What OpenSC's tool says about a token, logged in."""
        command = ("pkcs11-tool", "--module", str(self.library), "--token-label", label, "--login", "--pin", PIN)
        return self.run(*command, *arguments)

    def set_pin(self, label: str, old: str, new: str) -> None:
        """Change the PIN of a token with another program than ours."""
        self.run("pkcs11-tool", "--module", str(self.library), "--token-label", label, "--login", "--pin", old,
                 "--change-pin", "--new-pin", new)  # fmt: skip

    def take_away(self) -> None:
        """Remove all tokens, as if their cable were pulled."""
        self.tokens.rename(self.folder / "away")
        self.tokens.mkdir()

    def put_back(self) -> None:
        shutil.rmtree(self.tokens)
        (self.folder / "away").rename(self.tokens)

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=60, env={**os.environ, **self.environment}
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout
