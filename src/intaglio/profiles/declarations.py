"""Reading and writing profile declarations.

A declaration is one YAML mapping whose keys are the fields of `CertificateProfile`. Declarations of custom profiles
come from outside and are read with limits; the built-in ones are shipped files.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

import yaml
from pydantic import ValidationError

from intaglio.core.errors import InvalidInput
from intaglio.profiles.model import CertificateProfile

DECLARATION_OCTETS: Final = 32 * 1024
_DECLARATION_DEPTH: Final = 8
_DECLARATION_NODES: Final = 2000

_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Final = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def parse_declaration(text: str) -> CertificateProfile:
    """Read one profile declaration from outside.

    Raises InvalidInput (code ``profile-invalid``) whose ``fields`` list every wrong field by its path, such as
    ``key_usage[1]``. Limits: 32 KiB, nesting 8, no aliases, no duplicate keys.
    """
    if len(text.encode("utf-8", "surrogatepass")) > DECLARATION_OCTETS:
        raise _invalid(f"A profile declaration has at most {DECLARATION_OCTETS} octets.")
    try:
        _check_shape(text)
        content = yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader, the C one where PyYAML has it
    except yaml.YAMLError as error:
        raise _invalid(f"The profile declaration is not YAML: {_yaml_problem(error)}.") from None
    except (ValueError, OverflowError) as error:
        raise _invalid(f"The profile declaration holds a value that cannot be read: {error}.") from None
    return validated(content)


def load_trusted(data: bytes) -> CertificateProfile:
    """Read a declaration shipped with the package."""
    return validated(yaml.load(data, Loader=_Loader))  # noqa: S506 - as above


def validated(content: object) -> CertificateProfile:
    """The profile of a mapping of plain values. Raises InvalidInput as `parse_declaration` does."""
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise _invalid("A profile declaration is a mapping of field names to values.")
    try:
        return CertificateProfile.model_validate(content)
    except ValidationError as error:
        raise _explained(error) from None


def dump_declaration(profile: CertificateProfile) -> str:
    """The YAML of a profile without what equals the defaults; `parse_declaration` reads it back as it was."""
    content = profile.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    return str(yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110))


def _check_shape(text: str) -> None:
    """Refuse what would cost much to compose, reading only the event stream, which does not recurse."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_Loader)):
        if isinstance(event, yaml.AliasEvent):
            raise _invalid("A profile declaration may not use YAML aliases.")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DECLARATION_DEPTH or count > _DECLARATION_NODES:
            raise _invalid("The profile declaration is nested too deeply or has too many values.")
    _check_duplicates(text)


def _check_duplicates(text: str) -> None:
    node = yaml.compose(text, Loader=_Loader)
    pending = [node] if node is not None else []
    while pending:
        current = pending.pop()
        if isinstance(current, yaml.MappingNode):
            names: list[Hashable] = [key.value for key, _ in current.value if isinstance(key, yaml.ScalarNode)]
            if repeated := {name for name in names if names.count(name) > 1}:
                raise _invalid(f"The profile declaration names {', '.join(map(str, repeated))} twice.")
            pending += [value for _, value in current.value]
        elif isinstance(current, yaml.SequenceNode):
            pending += current.value


def _yaml_problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "malformed"
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else str(problem)


def _explained(error: ValidationError) -> InvalidInput:
    fields = [(_path(entry["loc"]), _message(entry["msg"])) for entry in error.errors(include_url=False)]
    listed = "; ".join(f"{path}: {message}" if path else message for path, message in fields[:5])
    return InvalidInput(
        f"The profile declaration is not valid: {listed}.",
        code="profile-invalid",
        remedy="Correct the fields named.",
        target=fields[0][0] or None,
        fields=fields,
    )


def _path(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _message(text: str) -> str:
    text = text.removeprefix("Value error, ").rstrip(".")
    return {
        "Extra inputs are not permitted": "is not a field of a profile",
        "Field required": "is missing",
    }.get(text, text)


def _invalid(detail: str) -> InvalidInput:
    return InvalidInput(detail, code="profile-invalid", remedy="See a built-in declaration for the form.")
