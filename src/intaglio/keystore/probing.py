"""Having a library or a token looked at by a process of its own, and what it found."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from intaglio.core.errors import Unavailable
from intaglio.keystore.pkcs11.modules import Module

_PATIENCE = 180.0  # seconds; a hardware token may take half a minute for an RSA key of 4096 bits

Action = Literal["slots", "login", "check"]


@dataclass(frozen=True)
class Report:
    """What was found. ``steps`` are mappings with ``about``, ``what``, ``ok`` and ``detail``; ``slots`` all slots of
    the library, ``token`` the slot of the token that was meant; ``pin`` is accepted, wrong or untried."""

    steps: tuple[Mapping[str, Any], ...]
    slots: tuple[Mapping[str, Any], ...]
    token: Mapping[str, Any] | None
    pin: str

    @property
    def ok(self) -> bool:
        return all(step["ok"] for step in self.steps)

    @property
    def fault(self) -> str:
        """The first thing that went wrong, as a phrase."""
        return next((f"{step['what']}: {step['detail']}" for step in self.steps if not step["ok"]), "")


async def probe(
    module: Module,
    action: Action,
    *,
    name: str = "",
    label: str | None = None,
    serial: str | None = None,
    slot: int | None = None,
    pin: str | None = None,
    load_sharing: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Report:
    """Look at a library (``slots``), a token and its PIN (``login``), or all that it can do (``check``).

    ``environment`` is added to that of the module. Logs in at most once. Raises Unavailable (``hsm-module-failed``)
    when the process crashes or does not come to an end.
    """
    job = {
        "path": str(module.path), "environment": {**module.environment, **(environment or {})}, "action": action,
        "name": name, "label": label, "serial": serial, "slot": slot, "pin": pin, "load_sharing": load_sharing,
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "intaglio.keystore.pkcs11.probe",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(_PATIENCE):
            output, _ = await process.communicate(json.dumps(job).encode())
    except TimeoutError:
        raise _failed(module, f"did not come to an end within {_PATIENCE:g} seconds") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0:
        raise _failed(module, f"ended the process that tried it (status {process.returncode})")
    found = json.loads(output.strip().splitlines()[-1])
    return Report(tuple(found["steps"]), tuple(found["slots"]), found["token"], found["pin"])


def _failed(module: Module, what: str) -> Unavailable:
    return Unavailable(
        f"The PKCS #11 module {module.name} ({module.path}) {what}.",
        code="hsm-module-failed",
        remedy="Is it the library for this machine, and its client software set up? Try: pkcs11-tool --module PATH -L.",
    )
