"""Whether a process says truthfully how it is doing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.serialization import Encoding
from tests.server.running import PATIENCE
from tests.support.authority import OPERATOR, make_hierarchy, root_wish
from tests.support.foreign import ForeignCa

from intaglio.authority.cas.create import create_root
from intaglio.authority.cas.delete import delete_ca
from intaglio.authority.context import Authority
from intaglio.authority.organizations import create_organization
from intaglio.authority.revocation import change_status, hold
from intaglio.core import clock
from intaglio.core.errors import Unavailable
from intaglio.core.identifiers import serial_from_hex
from intaglio.core.secrets import MasterKey
from intaglio.core.settings import Settings
from intaglio.server import ca_health, health, status_health
from intaglio.server.health import Health, HealthRegistry, health_app, standard_contributors
from intaglio.server.services import Services
from intaglio.validation.authorities import service as authorities
from intaglio.validation.authorities.values import AuthoritySpec
from intaglio.validation.signers import service as signers
from intaglio.validation.signers.values import NewSigner


@pytest_asyncio.fixture
async def services(database_url: str, master_key: MasterKey, tmp_path: Path) -> AsyncIterator[Services]:
    settings = Settings(data_dir=tmp_path, hostname="pki.example")
    made = Services(settings, database_url, master_key=master_key, make_authority=Authority)
    await made.start()
    yield made
    await made.stop()


@pytest_asyncio.fixture
async def away(master_key: MasterKey, tmp_path: Path) -> AsyncIterator[Services]:
    """Services whose database cannot be reached."""
    made = Services(
        Settings(data_dir=tmp_path, database_timeout=1), "postgresql://a@127.0.0.1:1/a", master_key=master_key
    )
    yield made
    await made.stop()


async def _ask(services: Services, path: str, registry: HealthRegistry | None = None) -> httpx.Response:
    if registry is None:
        registry = HealthRegistry()
        standard_contributors(services, registry)
    transport = httpx.ASGITransport(health_app(services, registry))
    async with httpx.AsyncClient(transport=transport, base_url="http://health") as client:
        return await client.get(path)


async def _up() -> Health:
    return Health(True)


async def _down() -> Health:
    return Health(False, {"reason": "broken"})


async def _refused() -> Health:
    raise Unavailable("The token is not there.", code="token-missing")


async def _defect() -> Health:
    raise RuntimeError("secret inner working")


async def test_server_with_everything_is_ready(services: Services) -> None:
    answer = await _ask(services, "/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "UP")


async def test_server_without_database_lives_and_is_not_ready(away: Services) -> None:
    assert (await _ask(away, "/livez")).status_code == 200
    answer = await _ask(away, "/readyz")
    assert answer.status_code == 503
    down = {name for name, part in answer.json()["components"].items() if part["status"] == "DOWN"}
    assert down == {"database", "watch"}


@pytest.mark.parametrize(
    ("contributor", "details"),
    [
        (_down, {"reason": "broken"}),
        (_refused, {"code": "token-missing", "reason": "The token is not there."}),
        (_defect, {"code": "internal-error", "reason": "See the log."}),
    ],
)
async def test_critical_contributor_takes_the_server_out(
    services: Services, contributor: health.Contributor, details: dict[str, str]
) -> None:
    registry = HealthRegistry()
    registry.register("good", _up)
    registry.register("bad", contributor)
    answer = await _ask(services, "/readyz", registry)
    assert answer.status_code == 503
    assert answer.json()["components"]["bad"] == {"status": "DOWN", "details": details}


async def test_contributor_that_only_informs_does_not(services: Services) -> None:
    registry = HealthRegistry()
    registry.register("good", _up)
    registry.register("bad", _down, critical=False)
    answer = await _ask(services, "/readyz", registry)
    assert (answer.status_code, answer.json()["components"]["bad"]["status"]) == (200, "DOWN")


async def test_contributor_that_does_not_answer_counts_as_down(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "_CHECK_TIME", 0.05)
    registry = HealthRegistry()

    async def never() -> Health:
        await asyncio.Event().wait()
        return Health(True)

    registry.register("slow", never)
    assert (await _ask(services, "/readyz", registry)).json()["components"]["slow"]["details"]["code"] == "timeout"


async def test_full_disk_is_reported(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "DISK_THRESHOLD", 1 << 62)
    answer = await _ask(services, f"{health.ACTUATOR}/health/custom/diskSpace")
    assert (answer.status_code, answer.json()["status"]) == (503, "DOWN")


async def test_only_what_is_exposed_is_offered_to_gateway_monitors(services: Services) -> None:
    offered = ("/health", "/health/custom/ping", "/health/custom/diskSpace", "/prometheus")
    assert [(await _ask(services, health.ACTUATOR + path)).status_code for path in offered] == [200] * 4
    assert (await _ask(services, f"{health.ACTUATOR}/health/other/ping")).status_code == 404
    services.settings = services.settings.model_copy(update={"actuator": ["health"], "health_groups": ["ops", "dc2"]})
    answer = await _ask(services, f"{health.ACTUATOR}/health")
    assert answer.json() == {"status": "UP", "groups": ["ops", "dc2"]}
    assert (await _ask(services, f"{health.ACTUATOR}/health/dc2/ping")).json() == {"status": "UP"}
    assert (await _ask(services, f"{health.ACTUATOR}/prometheus")).status_code == 404
    assert (await _ask(services, "/metrics")).status_code == 200


async def test_the_numbers_say_which_parts_work(services: Services) -> None:
    registry = HealthRegistry()
    registry.register("sound part", _up)
    registry.register("broken part", _down, critical=False)
    told = (await _ask(services, "/metrics", registry)).text
    assert 'intaglio_component_up{component="sound part"} 1.0' in told
    assert 'intaglio_component_up{component="broken part"} 0.0' in told


async def test_the_numbers_say_which_cas_can_issue(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    await create_organization(services.authority, OPERATOR, "numbers")
    await create_root(services.authority, OPERATOR, "numbers", root_wish())
    registry = HealthRegistry()
    ca_health.register(services, registry)

    async def told() -> str:
        text = (await _ask(services, "/metrics", registry)).text
        values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return values['intaglio_ca_up{ca="numbers~root"}']

    assert await told() == "1.0"
    ends = (await services.authority.snapshot()).ca("numbers~root").certificate.not_after
    with monkeypatch.context() as later:
        later.setattr(clock, "now", lambda: ends + timedelta(seconds=1))
        assert await told() == "0.0"
    await delete_ca(services.authority, OPERATOR, "numbers~root")
    assert await told() == "NaN"


async def test_a_ca_whose_certificate_is_on_hold_counts_as_down(services: Services) -> None:
    await create_organization(services.authority, OPERATOR, "broken")
    root, issuing = await make_hierarchy(services.authority, "broken")
    assert issuing.ca.serial_number is not None
    above = (await services.authority.snapshot()).ca(root.ca.id)
    await change_status(services.authority, OPERATOR, above, serial_from_hex(issuing.ca.serial_number), hold())
    await services.authority.reload()
    registry = HealthRegistry()
    ca_health.register(services, registry)
    numbers = (await _ask(services, "/metrics", registry)).text
    assert 'intaglio_ca_up{ca="broken~issuing"} 0.0' in numbers
    assert 'intaglio_ca_up{ca="broken~root"} 1.0' in numbers
    components = (await _ask(services, "/readyz", registry)).json()["components"]
    assert components["cas"]["details"]["broken~issuing"] == "certificate-held"


async def test_unknown_paths_and_methods_are_problems(services: Services) -> None:
    answer = await _ask(services, "/nowhere")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


async def test_change_made_elsewhere_reaches_subscribers(services: Services, database_url: str) -> None:
    called: asyncio.Queue[str] = asyncio.Queue()

    async def changed() -> None:
        called.put_nowait("changed")

    services.on_config(changed)
    await asyncio.wait_for(called.get(), PATIENCE)  # the present state, because the database was reached before
    other = Services(services.settings, database_url, master_key=services.master_key)
    async with other.database.transaction() as tx:
        tx.changed_configuration()
    await asyncio.wait_for(called.get(), PATIENCE)
    await other.stop()


async def test_one_failing_subscriber_does_not_keep_the_others_from_hearing(services: Services) -> None:
    heard = asyncio.Event()

    async def fails() -> None:
        raise Unavailable("Not now.")

    async def hears() -> None:
        heard.set()

    services.on_config(fails)
    services.on_config(hears)
    async with services.database.transaction() as tx:
        tx.changed_configuration()
    await asyncio.wait_for(heard.wait(), PATIENCE)


async def test_services_start_without_the_database(away: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("intaglio.server.services._FIRST_CONTACT", 0.1)
    await away.start()
    assert not away.database_reached
    assert not away.watch.current
    with pytest.raises(Unavailable):
        await away.database.ping()


async def test_callbacks_run_before_the_services_go(services: Services) -> None:
    reached = []

    async def last_work() -> None:
        await services.database.ping()
        reached.append(True)

    services.on_stop(last_work)
    await services.stop()
    assert reached == [True]


async def test_signers_that_end_soon_are_told(services: Services) -> None:
    ca, validation = ForeignCa(), services.validation
    source = {"crls": [{"url": "http://crl.example/ca.crl"}]}
    spec = {"name": "legacy", "source": "crl", "profile": "CRLProfile", "issuers": ca.pem, "crl": source}
    await authorities.create(validation, OPERATOR, AuthoritySpec.model_validate(spec))
    signer = (await signers.create(validation, OPERATOR, NewSigner(authority="legacy"))).signer
    assert signer.request is not None
    certificate = ca.certify_signer(signer.request, days=20)
    await signers.import_certificate(validation, OPERATOR, signer.id, certificate.public_bytes(Encoding.PEM).decode())
    registry = HealthRegistry()
    status_health.register(services, registry)

    async def told() -> tuple[int, dict[str, str]]:
        answer = await _ask(services, "/readyz", registry)
        details: dict[str, str] = answer.json()["components"]["ocspSigners"]["details"]
        return answer.status_code, details

    assert await told() == (200, {"legacy": "current"})
    shown = 'intaglio_certificate_expiry_timestamp_seconds{kind="ocsp-signer",name="legacy"} '
    assert float(await _number(services, registry, shown)) == certificate.not_valid_after_utc.timestamp()
    with clock.frozen(certificate.not_valid_after_utc - timedelta(days=13)):
        assert await told() == (200, {"legacy": "ends-soon"})
    with clock.frozen(certificate.not_valid_after_utc + timedelta(days=1)):
        assert await told() == (200, {"legacy": "expired"})
    await signers.delete_signer(validation, OPERATOR, signer.id)
    assert await told() == (200, {})
    assert await _number(services, registry, shown) == "NaN"


async def _number(services: Services, registry: HealthRegistry, name: str) -> str:
    text = (await _ask(services, "/metrics", registry)).text
    return next(line.removeprefix(name) for line in text.splitlines() if line.startswith(name))
