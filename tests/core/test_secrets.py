from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from intaglio.core.errors import StateConflict, Unavailable
from intaglio.core.secrets import MasterKey, load_master_key, write_master_key
from intaglio.core.settings import Settings

KEY = MasterKey.generate()


@given(st.binary(max_size=300), st.text(max_size=40))
def test_a_sealed_value_opens_for_its_purpose(plaintext: bytes, purpose: str) -> None:
    sealed = KEY.seal(plaintext, purpose=purpose)
    assert KEY.open(sealed, purpose=purpose) == plaintext
    assert len(plaintext) < 8 or plaintext not in sealed


def test_a_sealed_value_does_not_open_for_another_purpose() -> None:
    sealed = KEY.seal(b"secret", purpose="key:1")
    with pytest.raises(Unavailable) as refused:
        KEY.open(sealed, purpose="key:2")
    assert refused.value.code == "secret-tampered"


def test_equal_values_are_sealed_differently() -> None:
    assert KEY.seal(b"secret", purpose="p") != KEY.seal(b"secret", purpose="p")


@given(st.integers(0, 1000), st.integers(1, 255))
def test_any_altered_octet_is_noticed(position: int, change: int) -> None:
    sealed = bytearray(KEY.seal(b"secret", purpose="p"))
    sealed[position % len(sealed)] ^= change
    with pytest.raises(Unavailable) as refused:
        KEY.open(bytes(sealed), purpose="p")
    assert refused.value.code in ("secret-tampered", "master-key-missing")


@given(st.binary(max_size=60))
def test_any_octets_are_refused_or_opened(sealed: bytes) -> None:
    for candidate in (sealed, b"\x01" + KEY.current + sealed):
        with pytest.raises(Unavailable):
            KEY.open(candidate, purpose="p")


def test_a_rotated_ring_opens_old_values_and_seals_under_the_new_key() -> None:
    ring = KEY.rotated()
    old, new = KEY.seal(b"old", purpose="p"), ring.seal(b"new", purpose="p")
    assert ring.open(old, purpose="p") == b"old"
    assert (ring.sealed_under(old), ring.sealed_under(new)) == (KEY.current, ring.current)
    with pytest.raises(Unavailable) as refused:
        KEY.open(new, purpose="p")
    assert refused.value.code == "master-key-missing"
    with pytest.raises(Unavailable):
        ring.without(KEY.current).open(old, purpose="p")


def test_the_current_key_cannot_be_retired() -> None:
    with pytest.raises(StateConflict):
        KEY.without(KEY.current)


def test_a_ring_is_written_and_read_back(tmp_path: Path) -> None:
    ring, path = KEY.rotated(), tmp_path / "master.key"
    write_master_key(path, ring)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_master_key(Settings(data_dir=tmp_path)) == ring
    encoded = SecretStr(base64.b64encode(ring.dump()).decode())
    assert load_master_key(Settings(data_dir=tmp_path / "none", master_key=encoded)) == ring


def test_a_ring_that_is_replaced_keeps_its_owner_and_is_not_written_through_a_link(tmp_path: Path) -> None:
    path, other = tmp_path / "master.key", tmp_path / "other"
    write_master_key(path, MasterKey.generate())
    other.write_text("untouched")
    (tmp_path / "master.new").symlink_to(other)
    wanted = 65534 if os.geteuid() == 0 else os.geteuid()
    os.chown(path, wanted, -1)
    write_master_key(path, MasterKey.generate())
    assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (wanted, 0o600)
    assert other.read_text() == "untouched"


def test_the_new_ring_is_durable_before_anything_is_sealed_under_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[bool, bool]] = []

    def fsync(descriptor: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), (tmp_path / "master.key").exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    write_master_key(tmp_path / "master.key", MasterKey.generate())
    assert synced == [(False, False), (True, True)]


def test_a_process_with_the_master_key_leaves_no_core(tmp_path: Path) -> None:
    write_master_key(tmp_path / "master.key", MasterKey.generate())
    program = (
        "import resource; from pathlib import Path; from intaglio.core.secrets import load_master_key;"
        "from intaglio.core.settings import Settings;"
        f"load_master_key(Settings(data_dir=Path({str(tmp_path)!r})));"
        "print(resource.getrlimit(resource.RLIMIT_CORE)[0])"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "0"


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    write_master_key(tmp_path / "master.key", KEY)
    (tmp_path / "master.key").chmod(0o640)
    with pytest.raises(Unavailable) as refused:
        load_master_key(Settings(data_dir=tmp_path))
    assert refused.value.code == "master-key-exposed"


def test_a_missing_key_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as refused:
        load_master_key(Settings(data_dir=tmp_path))
    assert (refused.value.code, str(tmp_path) in refused.value.detail) == ("master-key-missing", True)


def test_a_setting_that_is_not_base64_is_refused() -> None:
    with pytest.raises(Unavailable):
        load_master_key(Settings(master_key=SecretStr("not base64!")))


SHORT = json.dumps({"keys": [{"id": "00000000", "key": base64.b64encode(b"short").decode()}]}).encode()


@given(st.binary(max_size=100) | st.sampled_from([b"{}", b"[]", b'{"keys": []}', b'{"keys": [{}]}', SHORT, b"null"]))
def test_anything_else_is_not_a_master_key(data: bytes) -> None:
    with pytest.raises(Unavailable) as refused:
        MasterKey.parse(data)
    assert refused.value.code == "master-key-invalid"


def test_a_master_key_does_not_show_itself() -> None:
    assert repr(KEY.keys[KEY.current]) not in repr(KEY)
