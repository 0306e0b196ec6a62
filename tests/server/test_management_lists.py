"""Lists in memory: the same grammar and paging as lists in the database."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from intaglio.core.errors import InvalidInput
from intaglio.db.listing import ListQuery
from intaglio.server.management.lists import page


class Thing(BaseModel):
    name: str
    color: str = ""
    tags: list[str] = []
    open: bool = False


THINGS = [
    Thing(name="anvil", color="black", tags=["heavy"]),
    Thing(name="balloon", color="red", tags=["light", "round"], open=True),
    Thing(name="coin", color="red", tags=["round"]),
]


@pytest.mark.parametrize(
    ("conditions", "found"),
    [
        ([], ["anvil", "balloon", "coin"]),
        (["color=red"], ["balloon", "coin"]),
        (["color!=red"], ["anvil"]),
        (["color=red", "open=true"], ["balloon"]),
        (["name~ALL"], ["balloon"]),
        (["tags=round"], ["balloon", "coin"]),
        (["tags!=round"], ["anvil"]),
        (["name>=balloon"], ["balloon", "coin"]),
        (["color="], []),
    ],
)
def test_all_conditions_must_hold(conditions: list[str], found: list[str]) -> None:
    assert [each.name for each in page(THINGS, ListQuery(conditions), key="name").items] == found


def test_a_list_is_sorted_by_any_member_in_either_direction() -> None:
    assert [each.name for each in page(THINGS, ListQuery(sort="-color"), key="name").items] == [
        "coin",
        "balloon",
        "anvil",
    ]


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (ListQuery(["colour=red"]), "filter-invalid"),
        (ListQuery(["color"]), "filter-invalid"),
        (ListQuery(sort="colour"), "sort-invalid"),
        (ListQuery(cursor="nonsense"), "cursor-invalid"),
    ],
)
def test_what_is_not_understood_is_refused(asked: ListQuery, code: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        page(THINGS, asked, key="name")
    assert refusal.value.code == code


def test_a_cursor_of_another_order_is_refused() -> None:
    cursor = page(THINGS, ListQuery(limit=1, sort="color"), key="name").next_cursor
    with pytest.raises(InvalidInput, match="cursor"):
        page(THINGS, ListQuery(limit=1, cursor=cursor), key="name")


@given(
    st.lists(
        st.builds(Thing, name=st.text(max_size=3), color=st.text(max_size=2)), max_size=30, unique_by=lambda t: t.name
    ),
    st.integers(1, 7),
    st.sampled_from(["name", "-name", "color", "-color"]),
)
def test_pages_together_are_the_list(things: list[Thing], limit: int, sort: str) -> None:
    seen: list[str] = []
    cursor = None
    while True:
        found = page(things, ListQuery(limit=limit, sort=sort, cursor=cursor, total=True), key="name")
        assert found.total == len(things)
        assert len(found.items) <= limit
        seen += [each.name for each in found.items]
        if (cursor := found.next_cursor) is None:
            break
    whole = page(things, ListQuery(limit=1000, sort=sort), key="name")
    assert seen == [each.name for each in whole.items]


@given(st.text(max_size=60))
def test_no_condition_or_cursor_does_worse_than_being_refused(text: str) -> None:
    for asked in (ListQuery([text]), ListQuery(sort=text), ListQuery(cursor=text)):
        with contextlib.suppress(InvalidInput):
            page(THINGS, asked, key="name")
