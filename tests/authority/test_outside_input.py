"""Whatever bytes and names come from outside: a clear refusal or a CA, never anything else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.support.authority import OPERATOR, openssl

from intaglio.authority.cas import external
from intaglio.authority.cas.checks import checked_subject
from intaglio.authority.cas.external import _root_of
from intaglio.authority.cas.values import CaChanges, NewExternalRoot, SubjectAttribute
from intaglio.authority.client_users import checked_name, checked_rights, client_subject
from intaglio.authority.context import Authority
from intaglio.core.errors import InvalidInput, Refused
from intaglio.x509.names import Name

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=10,
)
_FIELDS = st.sampled_from(["profiles", "administrators", "auditors", "label", "options", "credentials", "subject", "x"])


def _attempt(call: Callable[[], Any]) -> Any:
    """What the call returns, or its refusal; any other exception passes."""
    try:
        return call()
    except (InvalidInput, Refused, ValidationError) as refusal:
        return refusal


@given(st.text(max_size=80))
def test_an_accepted_client_name_comes_back_from_the_certificate_as_it_was(name: str) -> None:
    checked = _attempt(lambda: checked_name(name, target="name"))
    if isinstance(checked, InvalidInput):
        assert checked.target == "name"
        return
    assert checked == name.strip()
    subject = client_subject("demo", checked)
    assert Name.parse(subject.rfc4514) == subject
    assert subject.common_names == (checked,)


@given(st.lists(st.text(max_size=8), max_size=6), st.lists(st.text(max_size=8), max_size=6))
def test_rights_have_an_administrator_and_nobody_twice(administrators: list[str], auditors: list[str]) -> None:
    rights = _attempt(lambda: checked_rights(administrators, auditors))
    if isinstance(rights, InvalidInput):
        assert rights.target in ("administrators", "auditors")
        return
    assert "administrator" in rights.values()
    assert len({name.casefold() for name in rights}) == len(rights)
    assert all(name.strip() for name in rights)


@given(st.dictionaries(_FIELDS, _JSON, max_size=5))
def test_changes_from_outside_are_valid_or_named(content: dict[str, Any]) -> None:
    changes = _attempt(lambda: CaChanges.parse(content))
    if isinstance(changes, Refused):
        assert changes.code == "setting-frozen"
    elif isinstance(changes, ValidationError):
        assert changes.errors()
    else:
        assert set(content) <= set(CaChanges.model_fields)
        assert changes == CaChanges.model_validate(changes.model_dump())


_ATTRIBUTES = st.lists(st.builds(SubjectAttribute, type=st.text(max_size=12), value=st.text(max_size=70)), max_size=5)


@given(st.text(max_size=200) | _ATTRIBUTES)
def test_a_subject_from_outside_has_a_common_name_or_is_refused(subject: Any) -> None:
    name = _attempt(lambda: checked_subject(subject))
    if isinstance(name, InvalidInput):
        assert name.target == "subject"
    else:
        assert any(value.strip() for value in name.common_names)


@given(st.binary(max_size=300) | st.text(max_size=300))
def test_bytes_that_are_no_certificate_are_refused(data: bytes | str) -> None:
    with pytest.raises(InvalidInput):
        _root_of(data)


async def test_a_damaged_root_certificate_is_refused_wherever_it_is_damaged(
    authority: Authority, organization: str, tmp_path: Path
) -> None:
    openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-subj", "/CN=Root",
        "-keyout", tmp_path / "root.key", "-outform", "der", "-out", tmp_path / "root.der", "-days", "30",
    )  # fmt: skip
    certificate = (tmp_path / "root.der").read_bytes()
    for position in range(0, len(certificate), 7):
        damaged = certificate[:position] + bytes([certificate[position] ^ 0x21]) + certificate[position + 1 :]
        with pytest.raises(InvalidInput):
            await external.add_external_root(
                authority, OPERATOR, "demo", NewExternalRoot(name="outside", certificate=damaged)
            )
    shown = await external.add_external_root(
        authority, OPERATOR, "demo", NewExternalRoot(name="outside", certificate=certificate)
    )
    assert shown.subject == "CN=Root"
