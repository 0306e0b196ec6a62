"""Looking at a library or a token in a process of its own: ``python -m intaglio.keystore.pkcs11.probe``.

A library that was never tried may crash the process that loads it, and a PIN can only be proved where nobody is logged
in yet. The job comes as JSON on standard input (a PIN must not stand in arguments), the report goes to standard output.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pkcs11 import exceptions as ck

from intaglio.core.errors import IntaglioError
from intaglio.keystore.pkcs11 import errors, selftest
from intaglio.keystore.pkcs11.library import library
from intaglio.keystore.pkcs11.modules import Module
from intaglio.keystore.pkcs11.selftest import Step
from intaglio.keystore.pkcs11.token import Locator, Token, TokenSettings


def examine(job: dict[str, Any]) -> dict[str, Any]:
    """Do a job: ``slots`` lists them, ``login`` finds a token and logs in, ``check`` tries everything besides.

    Never raises: what goes wrong is a step of the report. ``pin`` says what became of it: accepted, wrong, untried.
    """
    module = Module("probed", Path(job["path"]), "probe", job["environment"])
    report: dict[str, Any] = {"steps": [], "slots": [], "token": None, "pin": "untried"}
    try:
        report["slots"] = selftest.slots(library(module))
        _note(report, "module", "load")
    except ck.PKCS11Error as error:
        _note(report, "module", "load", errors.describe(error))
        return report
    if job["action"] != "slots":
        _examine_token(job, module, report)
    return report


def _examine_token(job: dict[str, Any], module: Module, report: dict[str, Any]) -> None:
    locator = Locator(job["label"], job["serial"], job["slot"])
    token = Token(TokenSettings(job["name"], module, locator, job["pin"], 2, 30.0, job["load_sharing"]))
    found = token.present()
    if not found:
        _note(report, "token", "find", f"no token with {locator}")
        return
    _note(report, "token", "find")
    report["token"] = selftest.describe(found[0])
    try:
        token.run(lambda seat: None)
        report["pin"] = "accepted" if job["pin"] is not None else "untried"
        _note(report, "token", "log in")
    except IntaglioError as error:
        report["pin"] = "wrong" if error.code == "token-pin-wrong" else "untried"
        _note(report, "token", "log in", error.detail)
        return
    if job["action"] == "check":
        try:
            report["steps"] += [asdict(step) for step in selftest.exercise(token)]
        except IntaglioError as error:
            _note(report, "token", "self-test", error.detail)


def _note(report: dict[str, Any], about: str, what: str, fault: str = "") -> None:
    report["steps"].append(asdict(Step(about, what, not fault, fault)))


if __name__ == "__main__":
    answer = json.dumps(examine(json.load(sys.stdin)))
    # A library may print what it likes; the report is the last line.
    sys.stdout.write(f"\n{answer}\n")
