"""How a profile makes the subject of a certificate out of what the request brings.

- ``basic``: the subject variables, each an attribute, in order of arrival; without variables the subject of the CSR.
- ``template``: a distinguished name whose ``<placeholders>`` are replaced by subject variables, or, when the request
  has none, by attributes of the CSR's subject (``<cn>``, ``<uid>``, the second CN is ``<cn.2>``).
- ``san``: a distinguished name with the placeholder ``<SAN>``, replaced by a subject alternative name.

A template is taken apart when the profile is read; values are put into finished attributes, never into text, so that no
value can bring further attributes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from intaglio.core.errors import InvalidInput
from intaglio.profiles import vocabulary
from intaglio.x509.attribute_types import BY_ALIAS
from intaglio.x509.general_names import GeneralNames
from intaglio.x509.name_text import parse_name_text
from intaglio.x509.names import EMPTY_NAME, Name

_PLACEHOLDER: Final = re.compile(r"<([^<>]{1,200})>")
_NUMBERED: Final = re.compile(r"(?P<alias>[A-Za-z0-9-]+)(?:\.(?P<number>[1-9][0-9]?))?")
_SAN: Final = "san"
#: Types whose text stands for itself in an attribute.
_SAN_TYPES: Final = frozenset({"dNSName", "iPAddress", "registeredID", "rfc822Name", "uniformResourceIdentifier"})
#: Class names that configurations of other gateways use, with or without their package.
_CLASS_NAME: Final = re.compile(r"(?:\w+\.)*(Basic|SubAltName|Template)SubjectBuilder", re.ASCII)
_OF_CLASS: Final = {"Basic": "basic", "SubAltName": "san", "Template": "template"}
#: Fits every string type and length, countries included.
_SAMPLE: Final = "AT"

Variables = Sequence[tuple[str, str]]


def _builder_name(value: Any) -> Any:
    if isinstance(value, str) and (match := _CLASS_NAME.fullmatch(value.strip())):
        return _OF_CLASS[match[1]]
    return value


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _san_type(text: str) -> str:
    name = vocabulary.general_name_type(text)
    if name not in _SAN_TYPES:
        raise ValueError(f"a {name} cannot become part of a subject; use {', '.join(sorted(_SAN_TYPES))}")
    return name


class SubjectBuilder(BaseModel):
    """What makes the subject. ``template`` is a distinguished name as text, ``san_type_order`` the types of names that
    are looked for, the most wanted first; each belongs to the builders that need it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[Literal["basic", "san", "template"], BeforeValidator(_builder_name)] = "basic"
    template: str | None = Field(default=None, min_length=1, max_length=2000)
    san_type_order: Annotated[
        tuple[Annotated[str, AfterValidator(_san_type)], ...], BeforeValidator(_split), Field(max_length=5)
    ] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.template is None) != (self.name == "basic"):
            raise ValueError(f"the builder {self.name} {'has no' if self.name == 'basic' else 'needs a'} template")
        if bool(self.san_type_order) != (self.name == "san"):
            raise ValueError(f"the builder {self.name} {'needs a' if self.name == 'san' else 'has no'} san_type_order")
        if len(set(self.san_type_order)) != len(self.san_type_order):
            raise ValueError("san_type_order names the same type twice")
        if self.template is not None:
            self._check_template()
        return self

    def _check_template(self) -> None:
        try:
            Name.build(_filled(self._parts, lambda _: _SAMPLE))
        except InvalidInput as error:
            raise ValueError(f"the template is no distinguished name: {error.detail}") from None
        if not self.placeholders:
            raise ValueError("the template has no <placeholder>")
        if self.name == "san" and (strange := [name for name in self.placeholders if name.lower() != _SAN]):
            raise ValueError(f"the only placeholder of the builder san is <SAN>, not <{strange[0]}>")

    @cached_property
    def _parts(self) -> list[list[tuple[str, str | bytes]]]:
        return parse_name_text(self.template or "")

    @cached_property
    def placeholders(self) -> tuple[str, ...]:
        """The names between angle brackets, as they are written, each once."""
        texts = [value for rdn in self._parts for _, value in rdn if isinstance(value, str)]
        return tuple(dict.fromkeys(name for text in texts for name in _PLACEHOLDER.findall(text)))

    def unknown_placeholders(self, variables: Sequence[str]) -> Iterator[str]:
        """Placeholders that neither one of the ``variables`` nor an attribute of a CSR could ever fill."""
        if self.name == "template":
            known = {_folded(name) for name in variables}
            yield from (name for name in self.placeholders if _folded(name) not in known and _attribute(name) is None)

    def subject(self, variables: Variables, csr_subject: Name | None, names: Sequence[GeneralNames | None]) -> Name:
        """The subject for a request with these ``variables`` (name, value) and this CSR.

        ``names`` are the alternative names to look through, those that win first. Raises InvalidInput:
        ``invalid-name``, ``subject-template-unresolved``, ``subject-names-ambiguous``.
        """
        if self.name == "basic":
            return _of_variables(variables) if variables else csr_subject or EMPTY_NAME
        if self.name == "san":
            value = self._preferred(names)
            return Name.build(_filled(self._parts, lambda _: value))
        return Name.build(_filled(self._parts, _lookup(variables, csr_subject)))

    def _preferred(self, names: Sequence[GeneralNames | None]) -> str:
        """The one name of the first type in the order that there is."""
        for given in filter(None, names):
            for kind in self.san_type_order:
                found = [entry.text for entry in given.entries if entry.type == kind]
                if len(found) > 1:
                    raise InvalidInput(
                        f"The subject is made from the {kind}, and there are {len(found)} of them.",
                        code="subject-names-ambiguous",
                        remedy=f"Send one {kind}, or a subject.",
                        target="subjectAltNames",
                    )
                if found:
                    return found[0]
        raise InvalidInput(
            "The subject is made from a subject alternative name, and there is none of the types looked for.",
            code="subject-template-unresolved",
            remedy=f"Send one of type {', '.join(self.san_type_order)}.",
            target="subjectAltNames",
        )


def _of_variables(variables: Variables) -> Name:
    """In order of arrival they are the text of the name, so the first becomes its last RDN."""
    return Name.build(list(reversed(variables)))


def _filled(
    parts: list[list[tuple[str, str | bytes]]], value_of: Callable[[str], str]
) -> list[list[tuple[str, str | bytes]]]:
    def fill(value: str | bytes) -> str | bytes:
        return _PLACEHOLDER.sub(lambda match: value_of(match[1]), value) if isinstance(value, str) else value

    return [[(kind, fill(value)) for kind, value in rdn] for rdn in parts]


def _lookup(variables: Variables, csr_subject: Name | None) -> Callable[[str], str]:
    """Placeholder -> value: from the variables if there are any, else from the CSR."""
    given = {_folded(name): value for name, value in variables}

    def value_of(placeholder: str) -> str:
        value = given.get(_folded(placeholder)) if variables else _of_csr(placeholder, csr_subject)
        if value is None or not value.strip():
            raise InvalidInput(
                f"The subject needs a value for <{placeholder}>.",
                code="subject-template-unresolved",
                remedy="Send it in subjectVariables; only without any is the subject of the CSR read.",
                target="subjectVariables",
            )
        return value

    return value_of


def _of_csr(placeholder: str, subject: Name | None) -> str | None:
    wanted = _attribute(placeholder)
    if wanted is None or subject is None:
        return None
    oid, number = wanted
    values = subject.values(oid)
    return values[number - 1] if number <= len(values) else None


def _attribute(placeholder: str) -> tuple[str, int] | None:
    """(OID, number) of the attribute that a placeholder names, counted from 1 in the order of the encoding."""
    match = _NUMBERED.fullmatch(placeholder.strip())
    known = BY_ALIAS.get(match["alias"].lower()) if match is not None else None
    return (known.oid, int((match and match["number"]) or 1)) if known is not None else None


def _folded(name: str) -> str:
    return " ".join(name.split()).casefold()
