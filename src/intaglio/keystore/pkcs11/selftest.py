"""What a token can do, found out by doing it: every kind of key is generated, signs, is verified and deleted.

A plain report of values, made in a process of its own (:mod:`intaglio.keystore.pkcs11.probe`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pkcs11 import Mechanism, MechanismFlag, SlotFlag, TokenFlag
from pkcs11 import exceptions as ck
from pkcs11.types import Slot
from pkcs11.types import Token as Slotted

from intaglio.asn1.algorithms import load_public_key, sign, verify
from intaglio.core.errors import IntaglioError
from intaglio.keystore.pkcs11 import errors, objects
from intaglio.keystore.pkcs11.keys import private_key
from intaglio.keystore.pkcs11.library import Library
from intaglio.keystore.pkcs11.mechanisms import KINDS
from intaglio.keystore.pkcs11.token import Token, serial_of

_LABEL = "intaglio-check"
_DATA = b"signed by the self-test"


@dataclass(frozen=True)
class Step:
    """One thing that was tried: ``what`` with ``about``, whether it went well, and what came of it."""

    about: str
    what: str
    ok: bool
    detail: str = ""


def slots(library: Library) -> list[dict[str, Any]]:
    """Every slot of a library and the token in it. Raises PKCS11Error."""
    with library.entered() as loaded:
        return [_slot(each) for each in loaded.get_slots()]


def describe(slotted: Slotted) -> dict[str, Any]:
    """A token and its slot as its library reports them."""
    return _slot(slotted.slot)


def exercise(token: Token) -> list[Step]:
    """Try every algorithm that the token claims to have. Raises IntaglioError when it cannot be used at all."""
    steps: list[Step] = []
    able = token.run(lambda seat: _abilities(seat.session.token.slot))
    for algorithm, kind in KINDS.items():
        makes, signs = able.get(int(kind.generate)), able.get(int(kind.sign))
        if makes is None or signs is None:
            steps.append(Step(algorithm.value, "not offered", True, "the token does not have it"))
            continue
        steps += _try(token, algorithm.value, algorithm)
    return steps


def _try(token: Token, about: str, algorithm: Any) -> list[Step]:
    steps: list[Step] = []
    reference = b"intaglio-check-" + secrets.token_bytes(8)

    def step(what: str, call: Callable[[], Any]) -> Any:
        try:
            result = call()
        except IntaglioError as error:
            steps.append(Step(about, what, False, error.detail))
            return None
        ok = result is not False
        steps.append(Step(about, what, ok, "" if ok else "the signature is wrong"))
        return result

    try:
        spki = step("generate", lambda: token.run(
            lambda seat: objects.generate(seat, algorithm, reference, _LABEL), write=True
        ))  # fmt: skip
        if spki is None:
            return steps
        signature = step("sign", lambda: sign(private_key(token, reference, spki), _DATA))
        if signature is not None:
            public, found = load_public_key(spki)
            step("verify", lambda: verify(public, found.signature_oid, signature, _DATA))
    finally:
        step("delete", lambda: token.run(lambda seat: objects.destroy(seat, reference), write=True))
    return steps


def _abilities(slot: Slot) -> dict[int, MechanismFlag]:
    found = {}
    for mechanism in slot.get_mechanisms():
        try:
            found[int(mechanism)] = slot.get_mechanism_info(mechanism).flags
        except ck.PKCS11Error:
            continue
    return found


def _slot(slot: Slot) -> dict[str, Any]:
    found: dict[str, Any] = {
        "slot": slot.slot_id,
        "description": slot.slot_description,
        "manufacturer": slot.manufacturer_id,
        "hardware": SlotFlag.HW_SLOT in slot.flags,
        "slot_firmware": _version(slot.firmware_version),
        "token": None,
    }
    try:
        token = slot.get_token()
    except (ck.TokenNotPresent, ck.TokenNotRecognised):
        return found
    except ck.PKCS11Error as error:
        return {**found, "fault": errors.describe(error)}
    initialized = TokenFlag.TOKEN_INITIALIZED in token.flags
    return {
        **found,
        "token": {
            "label": token.label,
            "serial": serial_of(token),
            "model": token.model,
            "manufacturer": token.manufacturer_id,
            "hardware_version": _version(token.hardware_version),
            "firmware": _version(token.firmware_version),
            "initialized": initialized,
            "pin": _pin(token.flags) if initialized else "none",
            "mechanisms": _mechanism_names(slot) if initialized else [],
        },
    }


def _pin(flags: TokenFlag) -> str:
    if TokenFlag.USER_PIN_LOCKED in flags:
        return "locked"
    if TokenFlag.USER_PIN_FINAL_TRY in flags:
        return "one try left"
    if TokenFlag.USER_PIN_COUNT_LOW in flags:
        return "few tries left"
    return "set" if TokenFlag.USER_PIN_INITIALIZED in flags else "not set"


def _mechanism_names(slot: Slot) -> list[str]:
    try:
        found = slot.get_mechanisms()
    except ck.PKCS11Error:
        return []
    return sorted(each.name if isinstance(each, Mechanism) else f"0x{each:x}" for each in found)


def _version(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
