"""``pkcs11``: signatures of a token through the keystore, against a bare loop of python-pkcs11 over as many sessions.

The token is SoftHSM 2, which is faster than hardware: what is measured is what we add, at its worst.
"""

from __future__ import annotations

import asyncio
import hashlib
import statistics
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import uvloop
from pkcs11 import Mechanism, ObjectClass
from tests.support.tokens import SoftHsm

from bench.figure import Figure
from intaglio.asn1 import algorithms
from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.core.identifiers import new_id
from intaglio.keystore.pkcs11 import mechanisms
from intaglio.keystore.pkcs11.provider import Pkcs11Provider
from intaglio.keystore.service import Signer

SHARE = 0.90
SESSIONS = 4
CALLERS = 32
SECONDS = 0.5
ROUNDS = 15
DATA = b"a certificate to be signed" * 30


def measure() -> Figure:
    """Bare and ours take turns, so that what else the machine does hits both; the median of the ratios counts."""
    figure = Figure("pkcs11")
    with tempfile.TemporaryDirectory() as folder:
        hsm = SoftHsm(Path(folder))
        hsm.make("bench")
        for algorithm in (KeyAlgorithm.ECDSA_P256, KeyAlgorithm.RSA_2048):
            provider = Pkcs11Provider(hsm.settings("bench", sessions=SESSIONS))
            signer = _signer(provider, algorithm)
            pairs = [(_bare(provider, signer), uvloop.run(_ours(signer))) for _ in range(ROUNDS)]
            provider.close()
            ratio = statistics.median(ours / bare for bare, ours in pairs)
            bare, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
            note = f"{ours:,.0f}/s of {bare:,.0f}/s over {SESSIONS} sessions"
            figure.add(f"{algorithm.value}: ours / bare loop", ratio, "", ">=", SHARE, note)
            figure.measured[algorithm.value] = {"bare_per_second": bare, "ours_per_second": ours}
    return figure


def _signer(provider: Pkcs11Provider, algorithm: KeyAlgorithm) -> Signer:
    key_id = new_id()
    key = provider.generate(key_id, algorithm, "bench").private_key
    spki = algorithms.spki(key.public_key())
    return Signer(key_id, algorithm, spki, key, None, provider.dispatcher, provider.name)


async def _ours(signer: Signer) -> float:
    """Signatures per second of many callers that each wait for theirs."""
    end, count = perf_counter() + SECONDS, 0

    async def caller() -> None:
        nonlocal count
        while perf_counter() < end:
            await signer.sign(DATA)
            count += 1

    started = perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(caller())
    return count / (perf_counter() - started)


def _bare(provider: Pkcs11Provider, signer: Signer) -> float:
    """Signatures per second of one thread per session that does nothing else than hash and have the hash signed."""
    counts = [0] * SESSIONS
    started = perf_counter()
    end = started + SECONDS

    def loop(number: int, sign: Callable[[], object]) -> None:
        while perf_counter() < end:
            sign()
            counts[number] += 1

    with _sessions(provider, signer) as calls:
        threads = [threading.Thread(target=loop, args=each) for each in enumerate(calls)]
        started = perf_counter()
        end = started + SECONDS
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(counts) / (perf_counter() - started)


@contextmanager
def _sessions(provider: Pkcs11Provider, signer: Signer) -> Iterator[list[Callable[[], object]]]:
    """A call that signs for each of as many sessions as ours may have, with the wrapper alone."""
    library = provider.token._library
    with library.entered():
        [slotted] = provider.token.present()
        provider.token.run(lambda seat: None)  # logs in
        sessions = [slotted.open() for _ in range(SESSIONS)]
        keys = [session.get_key(ObjectClass.PRIVATE_KEY, id=signer.key_id.bytes) for session in sessions]
        yield [_call(key, signer) for key in keys]
        for session in sessions:
            session.close()


def _call(key: Any, signer: Signer) -> Callable[[], object]:
    """Hash, have the hash signed, encode the signature as certificates have it; nothing else."""
    if signer.algorithm is KeyAlgorithm.ECDSA_P256:
        return lambda: mechanisms.ecdsa_to_der(
            key.sign(hashlib.sha256(DATA).digest(), mechanism=Mechanism.ECDSA), 256
        )
    head = mechanisms.digest_info("sha256", bytes(32))[:-32]
    return lambda: key.sign(head + hashlib.sha256(DATA).digest(), mechanism=Mechanism.RSA_PKCS)
