"""Lists of identities in CSV and JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.core.errors import InvalidInput
from intaglio.mtls.identities.importing import COLUMNS, read_identities


def test_csv_with_a_header_line_becomes_identities() -> None:
    text = "\ufeffName,team,roles,dns_names\npayments,finance,reader writer,a.svc b.svc\norders,shop,,\n"
    first, second = read_identities(text, domain="prod.example", kind="service")
    assert first["roles"] == ["reader", "writer"]
    assert first["dns_names"] == ["a.svc", "b.svc"]
    assert {key: second[key] for key in ("name", "team", "domain", "kind")} == {
        "name": "orders", "team": "shop", "domain": "prod.example", "kind": "service",
    }  # fmt: skip


def test_json_list_becomes_identities() -> None:
    entries = [{"name": "a", "kind": "device", "properties": {"asset": "7"}}, {"name": "b"}]
    found = read_identities(json.dumps(entries), domain="d.example", kind="service")
    assert [each["kind"] for each in found] == ["device", "service"]
    assert read_identities(json.dumps({"identities": entries}), domain="d.example", kind="service") == found


@pytest.mark.parametrize(
    "text",
    [
        "", "name\n", "nom,team\na,b\n", "name,name\na,b\n", "name\na,b\n", 'name\n"a\n', "[", "[1]", '{"a": 1}',
        '[{"surname": "x"}]', '[{"name": 7}]', '[{"roles": "a b"}]', '[{"properties": {"a": 1}}]', "[]",
        "name,properties\na,b\n",
    ],
)  # fmt: skip
def test_what_is_no_list_of_identities_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        read_identities(text)
    assert refusal.value.code == "import-invalid"


LISTS = st.lists(st.dictionaries(st.sampled_from(COLUMNS), st.text() | st.none())).map(json.dumps)


@given(st.text(max_size=300) | LISTS)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = read_identities(text)
    except InvalidInput:
        return
    assert all(set(each) <= set(COLUMNS) for each in found)
