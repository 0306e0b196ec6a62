"""Copies of binding records in an S3-compatible bucket, encrypted before they leave this process.

Each record is encrypted with AES-256-GCM under a key of its own, which is wrapped under a secret of the service that
the master key seals (so that records outlive a rotation of the master key); the name of the object is bound in. The
bucket gets ciphertext only. Where a bucket is wanted, nothing is issued without it: it is asked for before, and the
certificate is handed out only once its record is stored.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from intaglio.core.clock import rfc3339
from intaglio.core.errors import IntaglioError, NotFound, NotSupported, Unavailable
from intaglio.mtls.context import Mtls
from intaglio.mtls.enrolment.sessions import Visitor
from intaglio.mtls.enrolment.settings import EnrolmentSettings
from intaglio.mtls.enrolment.stored_secrets import Secret, read_secret
from intaglio.mtls.identities.secrets import server_secret
from intaglio.mtls.identities.values import IssuedIdentity

_CONNECT_SECONDS, _READ_SECONDS = 3, 5
_LONGEST_RECORD = 64 * 1024
_VERSION = 1
_NONCE_OCTETS = 12


async def require_available(mtls: Mtls, settings: EnrolmentSettings) -> None:
    """Raise Unavailable (``binding-store-unavailable``) when the bucket is wanted and cannot be written to."""
    if settings.binding_store == "s3":
        bucket = await _bucket(mtls, settings)
        await asyncio.to_thread(bucket.require_there)


async def keep(mtls: Mtls, settings: EnrolmentSettings, issued: IssuedIdentity, email: str, visitor: Visitor) -> None:
    """Store the record of a certificate in the bucket, if one is wanted. Idempotent. Raises Unavailable."""
    if settings.binding_store != "s3":
        return
    record = {
        "binding": str(issued.binding_id),
        "identity": issued.identity.uri,
        "email": email,
        "serial": issued.serial.hex().upper(),
        "not_before": rfc3339(issued.not_before),
        "not_after": rfc3339(issued.not_after),
        "source": visitor.source,
        "user_agent": visitor.user_agent,
    }
    bucket = await _bucket(mtls, settings)
    name = bucket.name_of(issued.binding_id)
    body = encrypt(await _wrapping_key(mtls), name, json.dumps(record).encode())
    await asyncio.to_thread(bucket.put, name, body)


async def read(mtls: Mtls, settings: EnrolmentSettings, binding_id: UUID) -> dict[str, Any]:
    """The record of a binding from the bucket. Raises NotFound, Unavailable. Whoever calls has checked who asks."""
    bucket = await _bucket(mtls, settings)
    name = bucket.name_of(binding_id)
    body = await asyncio.to_thread(bucket.get, name)
    found: dict[str, Any] = json.loads(decrypt(await _wrapping_key(mtls), name, body))
    return found


def encrypt(wrapping_key: bytes, name: str, plaintext: bytes) -> bytes:
    """The object for a record: JSON with the wrapped key and the ciphertext, each after its nonce, in base64."""
    key = AESGCM.generate_key(256)
    members = {"wrapped_key": _seal(wrapping_key, name, key), "ciphertext": _seal(key, name, plaintext)}
    encoded = {member: base64.b64encode(value).decode() for member, value in members.items()}
    return json.dumps({"version": _VERSION, "algorithm": "AES-256-GCM", **encoded}).encode()


def decrypt(wrapping_key: bytes, name: str, body: bytes) -> bytes:
    """The record in an object. Raises Unavailable when it is damaged, moved, or another installation's."""
    try:
        if len(body) > _LONGEST_RECORD:
            raise ValueError
        members = json.loads(body)
        wrapped, sealed = (base64.b64decode(members[part], validate=True) for part in ("wrapped_key", "ciphertext"))
        return _open(_open(wrapping_key, name, wrapped), name, sealed)
    except (ValueError, KeyError, TypeError, RecursionError, InvalidTag):
        raise Unavailable(
            f'The object "{name}" is no record of this installation, or was altered.',
            code="binding-record-damaged",
            remedy="Restore it from a backup of the bucket.",
        ) from None


def _seal(key: bytes, name: str, plaintext: bytes) -> bytes:
    nonce = os.urandom(_NONCE_OCTETS)
    return nonce + AESGCM(key).encrypt(nonce, plaintext, name.encode())


def _open(key: bytes, name: str, sealed: bytes) -> bytes:
    return AESGCM(key).decrypt(sealed[:_NONCE_OCTETS], sealed[_NONCE_OCTETS:], name.encode())


async def _wrapping_key(mtls: Mtls) -> bytes:
    async with mtls.database.transaction() as tx:
        return await server_secret(tx, mtls.master_key, "binding-records")


@dataclass(frozen=True)
class _Bucket:
    """One bucket; every method blocks and raises Unavailable when it does not answer."""

    client: Any = field(repr=False)
    bucket: str
    prefix: str

    def name_of(self, binding_id: UUID) -> str:
        return f"{self.prefix}{binding_id}.json"

    def require_there(self) -> None:
        self._call("head_bucket")

    def put(self, name: str, body: bytes) -> None:
        self._call("put_object", Key=name, Body=body, ContentType="application/json")

    def get(self, name: str) -> bytes:
        found: bytes = self._call("get_object", Key=name)["Body"].read(_LONGEST_RECORD + 1)
        return found

    def _call(self, operation: str, **parameters: Any) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(self.client, operation)(Bucket=self.bucket, **parameters)
        except ClientError as error:
            if operation == "get_object" and error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                raise NotFound("The bucket has no record of this binding.", code="binding-unknown") from None
            raise self._unavailable(error.response["Error"].get("Code", "error")) from error
        except BotoCoreError as error:
            raise self._unavailable(type(error).__name__) from error

    def _unavailable(self, why: str) -> IntaglioError:
        return Unavailable(
            f'The bucket "{self.bucket}" for binding records cannot be used ({why}).',
            code="binding-store-unavailable",
            remedy="Check the settings `enrolment` (s3_...), its access key and the service.",
            retry_after=5,
        )


async def _bucket(mtls: Mtls, settings: EnrolmentSettings) -> _Bucket:
    if find_spec("boto3") is None:
        raise NotSupported(
            "Binding records in a bucket need the package boto3.",
            code="extra-missing",
            remedy="Install intaglio[s3], or set enrolment.binding_store=db.",
        )
    async with mtls.database.read() as view:
        secret_key = await read_secret(view, mtls, Secret.S3_SECRET_KEY)
    # Making a client reads the descriptions of the service from disk.
    return await asyncio.to_thread(_connect, settings, secret_key)


def _connect(settings: EnrolmentSettings, secret_key: str) -> _Bucket:
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        retries={"total_max_attempts": 2},
        s3={"addressing_style": "path" if settings.s3_endpoint else "auto"},
    )
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=settings.s3_endpoint or None,
        region_name=settings.s3_region or None,
        aws_access_key_id=settings.s3_access_key or None,
        aws_secret_access_key=secret_key or None,
        config=config,
    )
    return _Bucket(client, settings.s3_bucket, settings.s3_prefix)
