"""Tokens that go away, lock, are several, or are asked for too much at once."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.support.eventually import eventually
from tests.support.tokens import PIN, SoftHsm

from intaglio.asn1 import algorithms
from intaglio.asn1.algorithms import KeyAlgorithm, PrivateKey
from intaglio.core.errors import IntaglioError, NotFound, Refused, Unavailable
from intaglio.core.identifiers import new_id
from intaglio.core.settings import Settings
from intaglio.keystore.dispatch import Dispatcher
from intaglio.keystore.pkcs11 import errors, modules
from intaglio.keystore.pkcs11.modules import Module
from intaglio.keystore.pkcs11.provider import Pkcs11Provider
from intaglio.keystore.pkcs11.token import Locator
from intaglio.keystore.probing import probe
from intaglio.keystore.providers import StoredKey

P256 = KeyAlgorithm.ECDSA_P256


@pytest.fixture
def hsm(tmp_path: Path) -> SoftHsm:
    return SoftHsm(tmp_path)


def signs(key: PrivateKey) -> bool:
    """Whether a key signs; a wrong signature fails the test, a refusal does not."""
    try:
        signature = algorithms.sign(key, b"to be signed")
    except Unavailable as refused:
        if refused.code not in ("token-unavailable", "token-key-missing"):
            raise
        return False
    assert algorithms.verify(key.public_key(), P256.signature_oid, signature, b"to be signed")
    return True


async def test_a_token_that_comes_back_is_used_again_by_the_same_process(hsm: SoftHsm) -> None:
    hsm.make("one")
    provider = Pkcs11Provider(hsm.settings("one"))
    key = provider.generate(new_id(), P256, "a test").private_key
    assert signs(key)
    hsm.take_away()
    assert not signs(key)
    assert provider.token.fault is not None
    hsm.put_back()
    await eventually(lambda: signs(key))
    assert provider.token.fault is None


async def test_under_load_a_lost_token_gives_refusals_and_never_a_wrong_signature(hsm: SoftHsm) -> None:
    hsm.make("one")
    provider = Pkcs11Provider(hsm.settings("one", sessions=4))
    key = provider.generate(new_id(), P256, "a test").private_key
    ended, outcomes = threading.Event(), list[bool]()

    def load() -> None:
        while not ended.is_set():
            outcomes.append(signs(key))

    with ThreadPoolExecutor(6) as pool:
        running = [pool.submit(load) for _ in range(6)]
        try:
            for _ in range(2):
                await eventually(lambda: outcomes[-20:] == [True] * 20)
                hsm.take_away()
                await eventually(lambda: outcomes[-20:] == [False] * 20)
                hsm.put_back()
            await eventually(lambda: outcomes[-20:] == [True] * 20)
        finally:
            ended.set()
        for each in running:
            each.result()


def test_a_wrong_pin_is_tried_once(hsm: SoftHsm) -> None:
    hsm.make("one")
    attempts = []

    def counting(attempt: object) -> None:
        attempts.append(attempt)
        attempt()  # type: ignore[operator]

    provider = Pkcs11Provider(hsm.settings("one", pin="0000"), counting)
    for _ in range(3):
        with pytest.raises(errors.PinRefused) as refused:
            provider.everything()
        assert refused.value.code == "token-pin-wrong"
        assert "set-pin" in refused.value.remedy
    assert len(attempts) == 1


def test_a_token_that_is_not_there_is_an_outage(hsm: SoftHsm) -> None:
    hsm.make("one")
    with pytest.raises(Unavailable) as refused:
        Pkcs11Provider(hsm.settings("other")).everything()
    assert (refused.value.code, refused.value.status) == ("token-unavailable", 503)


def test_two_tokens_that_answer_to_one_name_are_told_apart_by_their_serial_numbers(hsm: SoftHsm) -> None:
    first, second = hsm.make("twin"), hsm.make("twin")
    with pytest.raises(Refused) as refused:
        Pkcs11Provider(hsm.settings("twin")).everything()
    assert refused.value.code == "token-ambiguous"
    assert first in refused.value.detail
    Pkcs11Provider(hsm.settings("twin", locator=Locator(serial=first))).generate(new_id(), P256, "in the first")
    there = Pkcs11Provider(hsm.settings("twin", locator=Locator(label="twin", serial=second)))
    assert there.everything() == []


async def test_tokens_that_share_the_load_stand_in_for_each_other(hsm: SoftHsm) -> None:
    serials = [hsm.make("twin"), hsm.make("twin")]
    key, key_id = algorithms.generate_private_key(P256), new_id()
    spki = algorithms.spki(key.public_key())
    stored = StoredKey(key_id, "", P256, "replicated", spki, None, key_id.bytes)
    for serial in serials:
        Pkcs11Provider(hsm.settings("twin", locator=Locator(serial=serial))).import_key(stored, key)
    shared = Pkcs11Provider(hsm.settings("twin", load_sharing=True, sessions=4))
    held = shared.load(stored)
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda _: signs(held), range(40)))
    for folder in hsm.tokens.iterdir():
        if serials[0].encode() in b"".join(each.read_bytes() for each in folder.glob("token.object")):
            folder.rename(hsm.folder / "gone")
    await eventually(lambda: signs(held))
    with ThreadPoolExecutor(4) as pool:
        await eventually(lambda: all(pool.map(lambda _: signs(held), range(20))))


def test_no_more_sessions_are_open_than_allowed(hsm: SoftHsm, tmp_path: Path) -> None:
    hsm.make("one")
    spy = next(Path(each) / "pkcs11-spy.so" for each in modules._LIB if (Path(each) / "pkcs11-spy.so").is_file())
    trace = tmp_path / "trace"
    environment = {**hsm.environment, "PKCS11SPY": str(hsm.library), "PKCS11SPY_OUTPUT": str(trace)}
    settings = hsm.settings("one", sessions=2)
    watched = Pkcs11Provider(type(settings)(**{**vars(settings), "module": Module("spy", spy, "test", environment)}))
    key = watched.generate(new_id(), P256, "a test").private_key
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: signs(key), range(60)))
    watched.generate(new_id(), P256, "another")
    open_now = most = 0
    calls = re.findall(r"C_(OpenSession|CloseSession|CloseAllSessions)\n", trace.read_text())
    for call in calls:
        open_now = open_now + 1 if call == "OpenSession" else 0 if call == "CloseAllSessions" else open_now - 1
        most = max(most, open_now)
    assert most == 2


async def test_who_waits_too_long_for_a_token_is_told_so_and_the_others_go_on() -> None:
    release = threading.Event()
    late = Unavailable("the token is busy", code="token-unavailable")
    dispatcher = Dispatcher(2, 0.2, lambda: late, "test")
    stuck = dispatcher.run(release.wait)
    assert await dispatcher.run(lambda: "served") == "served"
    with pytest.raises(IntaglioError, match="the token is busy"):
        await stuck
    assert await dispatcher.run(lambda: "still served") == "still served"
    release.set()
    dispatcher.close()


async def test_a_new_library_is_tried_in_a_process_of_its_own(hsm: SoftHsm, tmp_path: Path) -> None:
    hsm.make("one")
    found = await probe(hsm.module, "check", name="one", label="one", pin=PIN)
    assert found.ok, found.fault
    assert {step["about"] for step in found.steps} >= {"rsa-2048", "ecdsa-p256", "ecdsa-p521", "ed25519"}
    assert found.token is not None
    assert (found.token["token"]["label"], found.token["token"]["model"]) == ("one", "SoftHSM v2")
    assert "intaglio-check" not in hsm.pkcs11_tool("one", "--list-objects")
    wrong = await probe(hsm.module, "login", name="one", label="one", pin="0000")
    assert (wrong.ok, wrong.pin) == (False, "wrong")
    absent = await probe(hsm.module, "check", name="one", label="nobody", pin=PIN)
    assert (absent.ok, absent.pin, absent.fault) == (False, "untried", "find: no token with label nobody")
    no_library = tmp_path / "no.so"
    no_library.write_bytes(b"not a library")
    broken = await probe(Module("broken", no_library, "test"), "slots")
    assert not broken.ok


def test_a_library_that_others_could_have_put_there_is_not_loaded(tmp_path: Path) -> None:
    library = tmp_path / "evil.so"
    library.write_bytes(b"")
    settings = Settings(pkcs11_modules={"evil": str(library), "gone": str(tmp_path / "gone.so"), "near": "lib.so"})
    library.chmod(0o666)
    for name, why in (("evil", "others may write"), ("gone", "cannot be read"), ("near", "not absolute")):
        with pytest.raises(Refused, match=why) as refused:
            modules.require(settings, name)
        assert refused.value.code == "hsm-module-unsafe"
    library.chmod(0o644)
    tmp_path.chmod(0o777)
    with pytest.raises(Refused, match="others may write"):
        modules.require(settings, "evil")
    with pytest.raises(NotFound):
        modules.require(settings, "../evil.so")


def test_modules_and_their_variables_come_from_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTAGLIO_PKCS11_MODULES", "first=/opt/a.so, second=/opt/b.so")
    monkeypatch.setenv("INTAGLIO_PKCS11_ENVIRONMENT", "EVERYWHERE=1,second:ONLY_THERE=2")
    found = modules.modules(Settings())
    assert (found["first"].path, found["second"].path) == (Path("/opt/a.so"), Path("/opt/b.so"))
    assert found["first"].environment == {"EVERYWHERE": "1"}
    assert found["second"].environment == {"EVERYWHERE": "1", "ONLY_THERE": "2"}


async def test_who_comes_after_the_end_is_still_served_and_no_thread_stays() -> None:
    late = Unavailable("late", code="token-unavailable")
    dispatcher = Dispatcher(3, 5.0, lambda: late, "ending")
    assert [await dispatcher.run(lambda n=n: n) for n in range(5)] == [0, 1, 2, 3, 4]
    dispatcher.close()
    assert [await dispatcher.run(lambda n=n: n) for n in range(5)] == [0, 1, 2, 3, 4]
    await eventually(lambda: not any(each.name.startswith("ending") for each in threading.enumerate()))
