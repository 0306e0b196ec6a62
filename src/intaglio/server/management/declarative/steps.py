"""Steps: one thing to do each, with the fields that differ as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Section = Literal[
    "settings", "profile", "organization", "members", "ca", "trust domain", "identity", "policy", "ingress",
    "pipeline", "outbound credential", "status directory", "status authority",
    "ocsp signer", "timestamp issuer", "token", "enrolment tenant", "enrolment endpoint",
]
Action = Literal["create", "change", "delete"]


@dataclass(frozen=True)
class FieldChange:
    """One field, before and after, as people read it."""

    name: str
    before: str
    after: str


@dataclass(frozen=True)
class Step:
    """One thing to do. ``wanted`` is the declared object (None for a deletion); ``organization`` its place."""

    section: Section
    action: Action
    name: str
    organization: str = ""
    wanted: Any = field(default=None, repr=False)
    fields: tuple[FieldChange, ...] = ()

    @property
    def object(self) -> str:
        if self.section == "ca":
            return f"ca {self.organization}~{self.name}"
        return f"{self.section} {self.name}"


def changed_fields(wanted: Any, known: Any, names: Sequence[str]) -> tuple[FieldChange, ...]:
    """The fields of these names that differ."""
    found = (field_change(name, getattr(known, name), getattr(wanted, name)) for name in names)
    return tuple(change for change in found if change is not None)


def field_change(name: str, before: Any, after: Any) -> FieldChange | None:
    """The change of a field, None when it says the same. The order of a list says nothing."""
    if isinstance(before, list) and isinstance(after, list) and name != "key_usage":
        same = sorted(map(_folded, before)) == sorted(map(_folded, after))
    else:
        same = before == after
    told = _rule_text if name == "ip_rule" else text
    return None if same else FieldChange(name, told(before), told(after))


def _rule_text(rule: list[str] | None) -> str:
    # No rule and a rule without networks are opposites.
    if rule is None:
        return "(no rule)"
    return ", ".join(rule) or "(nobody)"


def _folded(value: Any) -> str:
    # Ids of profiles are spelled with - or _, and names of clients match without regard to case.
    return str(value).casefold().replace("_", "-")


def text(value: Any) -> str:
    """A value as people read it."""
    if value is None or value == "":
        return "(nothing)"
    if isinstance(value, list | tuple):
        return ", ".join(str(getattr(each, "name", each)) for each in value) or "(nothing)"
    if hasattr(value, "model_dump"):
        return (
            ", ".join(f"{name}={each}" for name, each in value.model_dump(exclude_defaults=True).items()) or "defaults"
        )
    return str(value)
