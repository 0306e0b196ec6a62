"""An authority floor on a fresh database, and CAs in it."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.support.database import Build, MakeStage, Stage

from intaglio.asn1.algorithms import KeyAlgorithm, generate_private_key, spki
from intaglio.authority import organizations
from intaglio.authority.cas.create import create_issuing, create_root
from intaglio.authority.cas.values import CreatedCa, NewIssuing, NewRoot
from intaglio.authority.context import Authority
from intaglio.authority.directory import Snapshot
from intaglio.authority.issuance import Idempotency, Issued, Order, issue
from intaglio.core.principal import ALL_PERMISSIONS, Principal, operator
from intaglio.core.secrets import MasterKey
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
    async with _started(database, keystore, tmp_path) as started:
        yield started


@pytest.fixture(scope="session")
def organization_stage(make_stage: MakeStage) -> Stage:
    """A database with an organization named ``demo``."""

    async def build(authority: Authority) -> None:
        await organizations.create_organization(authority, OPERATOR, "demo")

    return make_stage(on_authority(build))


@pytest.fixture
def organization(organization_stage: Stage, authority: Authority) -> str:
    """An organization named ``demo``."""
    return "demo"


@pytest.fixture(scope="session")
def hierarchy_stage(make_stage: MakeStage, organization_stage: Stage) -> Stage:
    """A database with ``demo~root`` and ``demo~issuing``."""
    return make_stage(on_authority(make_hierarchy), organization_stage)


@pytest_asyncio.fixture
async def hierarchy(
    stage: Stage, hierarchy_stage: Stage, authority: Authority, organization: str
) -> tuple[CreatedCa, CreatedCa]:
    """``demo~root`` and ``demo~issuing`` below it, as they were created."""
    if stage.includes(hierarchy_stage):
        made: tuple[CreatedCa, CreatedCa] = hierarchy_stage.value
        return made
    return await make_hierarchy(authority, organization)


def on_authority(build: Callable[[Authority], Coroutine[Any, Any, Any]]) -> Build:
    """How ``make_stage`` wants a maker that works on an authority floor."""

    async def built(database_url: str, master_key: MasterKey, folder: Path) -> Any:
        database, keystore = Database(database_url, pool_size=8, timeout=10.0), KeyStore(master_key)
        try:
            async with _started(database, keystore, folder) as authority:
                return await build(authority)
        finally:
            keystore.close()
            await database.close()

    return built


@contextlib.asynccontextmanager
async def _started(database: Database, keystore: KeyStore, folder: Path) -> AsyncIterator[Authority]:
    settings = Settings(data_dir=folder, hostname="pki.example", public_url="http://pki.example")
    authority = Authority(settings, database, keystore)
    await authority.start()
    yield authority
    await authority.stop()


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
