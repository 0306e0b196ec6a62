"""An authority floor on a fresh database, and CAs in it."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest_asyncio

from intaglio.asn1.algorithms import KeyAlgorithm, generate_private_key, spki
from intaglio.authority import organizations
from intaglio.authority.cas.create import create_issuing, create_root
from intaglio.authority.cas.values import CreatedCa, NewIssuing, NewRoot
from intaglio.authority.context import Authority
from intaglio.authority.directory import Snapshot
from intaglio.authority.issuance import Idempotency, Issued, Order, issue
from intaglio.core.principal import ALL_PERMISSIONS, Principal, operator
from intaglio.core.settings import Settings
from intaglio.db.engine import Database
from intaglio.keystore.service import KeyStore
from intaglio.profiles.engine import IssuanceInput, RequestedValidity
from intaglio.x509.certificates import pem
from intaglio.x509.general_names import GeneralNames
from intaglio.x509.names import Name

OPERATOR = operator("root")


@pytest_asyncio.fixture
async def authority(database: Database, keystore: KeyStore, tmp_path: Path) -> AsyncIterator[Authority]:
    """The authority floor of one process."""
    settings = Settings(data_dir=tmp_path, hostname="pki.example", public_url="http://pki.example")
    started = Authority(settings, database, keystore)
    await started.start()
    yield started
    await started.stop()


@pytest_asyncio.fixture
async def organization(authority: Authority) -> str:
    """An organization named ``demo``."""
    await organizations.create_organization(authority, OPERATOR, "demo")
    return "demo"


def tenant(name: str) -> Principal:
    """A user who may do everything except look after the platform as a whole."""
    return Principal("user", name, frozenset(p for p in ALL_PERMISSIONS if p.value != "platform.manage"))


def root_wish(name: str = "root", **changes: Any) -> NewRoot:
    """A root CA as the console would ask for it."""
    values: dict[str, Any] = {
        "name": name,
        "key_algorithm": "P-256",
        "subject": f"CN={name},O=Demo,C=CA",
        "profiles": ["privatessl-tls-server"],
        "administrators": ["alice"],
    }
    return NewRoot(**(values | changes))


def issuing_wish(name: str = "issuing", issuer: str = "root", **changes: Any) -> NewIssuing:
    """An issuing CA as the console would ask for it."""
    values: dict[str, Any] = {
        "name": name,
        "issuer": issuer,
        "key_algorithm": "P-256",
        "subject": f"CN={name},O=Demo,C=CA",
        "profiles": ["privatessl-tls-server", "privatessl-tls-client"],
        "administrators": ["alice"],
        "auditors": ["bob"],
    }
    return NewIssuing(**(values | changes))


async def make_hierarchy(authority: Authority, organization: str = "demo") -> tuple[CreatedCa, CreatedCa]:
    """A root and an issuing CA below it, in an organization that exists."""
    root = await create_root(authority, OPERATOR, organization, root_wish())
    return root, await create_issuing(authority, OPERATOR, organization, issuing_wish())


async def issue_server_certificate(
    authority: Authority,
    ca: str,
    *,
    profile: str = "privatessl-tls-server",
    not_after: datetime | None = None,
    renews: Issued | None = None,
    idempotency: Idempotency | None = None,
) -> Issued:
    """A certificate for www.example over a fresh P-256 key, as the console would have it issued."""
    public_key = spki(generate_private_key(KeyAlgorithm.ECDSA_P256).public_key())

    def decide(snapshot: Snapshot) -> Order:
        view = snapshot.ca(ca)
        wanted = IssuanceInput(
            subject=Name.parse("CN=www.example"),
            spki=public_key,
            key_algorithm=KeyAlgorithm.ECDSA_P256,
            channel="console",
            san=GeneralNames.build([("dns", "www.example")]),
            validity=RequestedValidity(not_after=not_after) if not_after else None,
        )
        previous = renews.id if renews else None
        return Order(view, view.profile(profile), wanted, previous, renewal=renews is not None)

    return await issue(authority, OPERATOR, decide, idempotency=idempotency)


def openssl(*arguments: object, stdin: bytes = b"", remarks: bool = False) -> str:
    """Output of the openssl command, with ``remarks`` what it says on standard error; fails the test when it fails."""
    done = subprocess.run(["openssl", *map(str, arguments)], input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()
    return (done.stderr if remarks else done.stdout).decode()


def verify_chain(folder: Path, chain: Sequence[bytes]) -> None:
    """Have OpenSSL verify ``chain[0]`` strictly up to the root ``chain[-1]``."""
    for name, certificates in (("leaf", chain[:1]), ("between", chain[1:-1]), ("root", chain[-1:])):
        (folder / f"{name}.pem").write_text("".join(map(pem, certificates)))
    between = ["-untrusted", folder / "between.pem"] if len(chain) > 2 else []
    openssl("verify", "-x509_strict", "-CAfile", folder / "root.pem", *between, folder / "leaf.pem")
