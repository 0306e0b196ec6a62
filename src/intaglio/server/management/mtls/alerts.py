"""Alerts: what is wrong, who was told, and the proof that telling works."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict

from intaglio.core.principal import Permission
from intaglio.mtls.observation import alert_channels, alert_upkeep, alerts
from intaglio.server.management.access import Asked, Asker
from intaglio.server.management.lists import Items, page
from intaglio.server.management.mtls.given import GivenMtls

router = APIRouter(prefix="/mtls/v1/alerts", tags=["alerts"])


class Alert(BaseModel):
    """An alert. ``undelivered`` counts what the channels were not told yet, ``trouble`` says why not."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    organization: str
    kind: str
    subject: str
    ingress: str
    severity: Literal["info", "warning", "critical"]
    state: Literal["open", "acknowledged", "closed"]
    detail: str
    count: int
    first_seen: datetime
    last_seen: datetime
    changed_by: str | None
    changed_at: datetime | None
    undelivered: int
    trouble: str


class AlertChange(BaseModel):
    """What goes on opens a new alert after one was closed."""

    model_config = ConfigDict(extra="forbid")

    state: Literal["acknowledged", "closed"]


class MuteWish(BaseModel):
    """Until when nobody is told, a month ahead at most; a time that is past ends it."""

    model_config = ConfigDict(extra="forbid")

    organization: str
    until: datetime
    reason: str


class Mute(BaseModel):
    """A kind that nobody is told of."""

    model_config = ConfigDict(from_attributes=True)

    organization: str
    kind: str
    until: datetime
    reason: str
    muted_by: str


class AlertTest(BaseModel):
    """In whose name it is fired."""

    model_config = ConfigDict(extra="forbid")

    organization: str


class AlertProof(BaseModel):
    """An alert that was fired as a test and arrived."""

    model_config = ConfigDict(from_attributes=True)

    organization: str
    kind: str
    channels: Sequence[str]
    proved_by: str
    proved_at: datetime


class WebhookSecret(BaseModel):
    """The key of the signatures (HMAC-SHA256), in hexadecimal."""

    secret: str


@router.get("")
async def list_alerts(
    mtls: GivenMtls, asker: Asker, asked: Asked, organization: Annotated[str, Query(description="The organization.")]
) -> Items[Alert]:
    """The alerts of an organization."""
    found = await alerts.list_alerts(mtls, asker, organization)
    return page([Alert.model_validate(each) for each in found], asked, key="id")


@router.put("/{alert}")
async def change_alert(mtls: GivenMtls, asker: Asker, alert: UUID, body: AlertChange) -> Alert:
    """Acknowledge or close an alert."""
    return Alert.model_validate(await alerts.change_alert(mtls, asker, alert, body.state))


@router.put("/kinds/{kind}/mute")
async def mute_alert(mtls: GivenMtls, asker: Asker, kind: str, body: MuteWish) -> Mute:
    """Tell nobody of a kind for a while. It is still counted; no kind can be silenced for good."""
    return Mute.model_validate(await alerts.mute(mtls, asker, body.organization, kind, body.until, body.reason))


@router.post("/kinds/{kind}/test", status_code=201)
async def fire_test_alert(mtls: GivenMtls, asker: Asker, kind: str, body: AlertTest) -> AlertProof:
    """Fire a kind of alert end to end, over every channel that is set, and keep the proof."""
    return AlertProof.model_validate(await alert_upkeep.test_alert(mtls, asker, body.organization, kind))


@router.get("/webhook-secret")
async def get_webhook_secret(mtls: GivenMtls, asker: Asker) -> WebhookSecret:
    """The key that a webhook verifies signatures with."""
    asker.require(Permission.PLATFORM_MANAGE)
    return WebhookSecret(secret=(await alert_channels.webhook_secret(mtls)).hex())
