"""Organizations and their members."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from intaglio.authority import memberships, organizations
from intaglio.authority.access import Organization as Found
from intaglio.server.management.access import Asked, Asker, Given
from intaglio.server.management.lists import Items, page

router = APIRouter(tags=["organizations"])

JoinPolicy = Literal["approval", "open", "invite"]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Organization(BaseModel):
    """An independent partition that holds CAs."""

    name: str
    description: str
    join_policy: JoinPolicy
    created_by: str
    created_at: datetime

    @classmethod
    def of(cls, found: Found) -> Organization:
        return cls.model_validate(found, from_attributes=True)


class NewOrganization(_Body):
    """``join_policy``: who asks to join is let in by a member (approval), at once (open), or not at all (invite)."""

    name: str
    description: str = ""
    join_policy: JoinPolicy = "approval"


class OrganizationChanges(_Body):
    """What is left out stays."""

    description: str | None = None
    join_policy: JoinPolicy | None = None


@router.get("/organizations")
async def list_organizations(services: Given, asker: Asker, asked: Asked) -> Items[Organization]:
    """The organizations one belongs to; all of them for whoever manages the platform."""
    found = await organizations.list_organizations(services.authority, asker)
    return page(map(Organization.of, found), asked, key="name")


@router.post("/organizations", status_code=201)
async def create_organization(services: Given, asker: Asker, body: NewOrganization) -> Organization:
    """Create an organization; who creates it becomes its first administrator."""
    return Organization.of(
        await organizations.create_organization(
            services.authority, asker, body.name, description=body.description, join_policy=body.join_policy
        )
    )


@router.get("/organizations/{organization}")
async def get_organization(services: Given, asker: Asker, organization: str) -> Organization:
    """One organization."""
    return Organization.of(await organizations.get_organization(services.authority, asker, organization))


@router.patch("/organizations/{organization}")
async def edit_organization(
    services: Given, asker: Asker, organization: str, body: OrganizationChanges
) -> Organization:
    """Change the description or who may join."""
    return Organization.of(
        await organizations.edit_organization(
            services.authority, asker, organization, description=body.description, join_policy=body.join_policy
        )
    )


@router.delete("/organizations/{organization}", status_code=204)
async def delete_organization(services: Given, asker: Asker, organization: str) -> None:
    """Delete an organization that has no CAs."""
    await organizations.delete_organization(services.authority, asker, organization)


# ---- members ---------------------------------------------------------------------------------------------------------


class Member(BaseModel):
    """A member of an organization, or a user who asked or was invited to be one."""

    user: str
    state: Literal["member", "requested", "invited"]
    since: datetime

    @classmethod
    def of(cls, found: memberships.Member) -> Member:
        return cls.model_validate(found, from_attributes=True)


class MemberWish(_Body):
    """``member`` lets a user in, at once or by approving his request; ``invited`` lets him decide."""

    state: Literal["member", "invited"] = "member"


@router.post("/organizations/{organization}/join")
async def join_organization(services: Given, asker: Asker, organization: str) -> Member:
    """Join, ask to join, or accept an invitation, as the policy of the organization says."""
    return Member.of(await memberships.join_organization(services.authority, asker, organization))


@router.post("/organizations/{organization}/leave", status_code=204)
async def leave_organization(services: Given, asker: Asker, organization: str) -> None:
    """Leave, or take back a request to join."""
    await memberships.leave_organization(services.authority, asker, organization)


@router.get("/organizations/{organization}/members")
async def list_members(services: Given, asker: Asker, asked: Asked, organization: str) -> Items[Member]:
    """Members, requests and invitations."""
    found = await memberships.list_members(services.authority, asker, organization)
    return page(map(Member.of, found), asked, key="user")


@router.put("/organizations/{organization}/members/{user}")
async def put_member(services: Given, asker: Asker, organization: str, user: str, body: MemberWish) -> Member:
    """Make a user a member, or invite him."""
    put = memberships.add_member if body.state == "member" else memberships.invite_member
    return Member.of(await put(services.authority, asker, organization, user))


@router.delete("/organizations/{organization}/members/{user}", status_code=204)
async def delete_member(services: Given, asker: Asker, organization: str, user: str) -> None:
    """Take a member out, turn down a request, or withdraw an invitation."""
    members = await memberships.list_members(services.authority, asker, organization)
    if any(each.user == user and each.state != "member" for each in members):
        await memberships.reject_request(services.authority, asker, organization, user)
    else:
        await memberships.remove_member(services.authority, asker, organization, user)
