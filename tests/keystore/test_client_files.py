"""Client configuration of nShield and Luna: taken over whole or not at all, and never from outside its folder."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from intaglio.core.errors import InvalidInput, NotFound, StateConflict
from intaglio.core.settings import Settings
from intaglio.keystore import client_files
from intaglio.keystore.pkcs11 import modules

CHRYSTOKI = """\
Chrystoki2 = {
   LibUNIX64 = /usr/safenet/lunaclient/lib/libCryptoki2_64.so;
}
LunaSA Client = {
   ClientPrivKeyFile = /usr/safenet/lunaclient/cert/client/hostKey.pem;
   ClientCertFile = /usr/safenet/lunaclient/cert/client/host.pem;
   ServerCAFile = /elsewhere/CAFile.pem;
   SSLConfigFile = /usr/safenet/lunaclient/bin/openssl.cnf;
}
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "data").mkdir()
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture
def kmdata(tmp_path: Path) -> Path:
    folder = tmp_path / "kmdata"
    (folder / "local").mkdir(parents=True)
    (folder / "config").mkdir()
    (folder / "local/world").write_bytes(b"security world")
    (folder / "local/key_pkcs11_ua1").write_bytes(b"key blob")
    (folder / "config/config").write_text("[nethsm_imports]\n")
    (folder / "cknfastrc").write_text("# comment\nCKNFAST_LOADSHARING=1\nLD_PRELOAD=/tmp/evil.so\n")
    return folder


def world(settings: Settings) -> bytes:
    return (settings.data_dir / "hsm/nshield/kmdata/local/world").read_bytes()


def test_a_security_world_is_taken_from_a_folder_an_export_or_an_archive(
    settings: Settings, kmdata: Path, tmp_path: Path
) -> None:
    assert client_files.import_nshield(settings, kmdata).files == 4
    exported = client_files.export(settings, "nshield", tmp_path / "out")
    archive = client_files.export(settings, "nshield", tmp_path / "out", compressed=True)
    with tarfile.open(archive) as written:
        assert sorted(written.getnames())[:2] == ["kmdata", "kmdata/cknfastrc"]
    for number, source in enumerate((exported, exported.parent, archive)):
        (tmp_path / str(number)).mkdir()
        elsewhere = Settings(data_dir=tmp_path / str(number))
        client_files.import_nshield(elsewhere, source)
        assert world(elsewhere) == b"security world"
    with pytest.raises(StateConflict):
        client_files.export(settings, "nshield", tmp_path / "out")


def test_the_library_is_led_to_what_was_taken_over_by_variables_of_its_own_only(
    settings: Settings, kmdata: Path
) -> None:
    client_files.import_nshield(settings, kmdata)
    found = modules._environment(settings, "nshield")
    assert found == {"NFAST_KMDATA": str(settings.data_dir / "hsm/nshield/kmdata"), "CKNFAST_LOADSHARING": "1"}
    assert all(each.stat().st_mode & 0o077 == 0 for each in (settings.data_dir / "hsm/nshield").rglob("*"))


def test_there_is_no_limit_to_the_size(settings: Settings, kmdata: Path, tmp_path: Path) -> None:
    with open(kmdata / "local/large", "wb") as file:
        file.truncate(50 << 20)
    archive = tmp_path / "kmdata.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(kmdata, arcname="kmdata")
    assert archive.stat().st_size > 50 << 20
    client_files.import_nshield(settings, archive)
    assert (settings.data_dir / "hsm/nshield/kmdata/local/large").stat().st_size == 50 << 20


def test_what_is_no_security_world_leaves_the_present_one_in_place(
    settings: Settings, kmdata: Path, tmp_path: Path
) -> None:
    client_files.import_nshield(settings, kmdata)
    empty = tmp_path / "empty"
    empty.mkdir()
    garbage = tmp_path / "garbage.tar.gz"
    garbage.write_bytes(b"\x1f\x8b garbage")
    for source in (empty, garbage, tmp_path / "nothing"):
        with pytest.raises(InvalidInput) as refused:
            client_files.import_nshield(settings, source)
        assert refused.value.code == "hsm-files-unsuitable"
    assert world(settings) == b"security world"
    assert [each.name for each in (settings.data_dir / "hsm").iterdir()] == ["nshield"]


def test_an_import_that_was_broken_off_loses_nothing(
    settings: Settings, kmdata: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client_files.import_nshield(settings, kmdata)
    present = modules.imported_folder(settings, "nshield")
    present.rename(present.with_name(".nshield.old"))  # killed between the two steps
    with pytest.raises(InvalidInput):
        client_files.import_nshield(settings, tmp_path / "nothing.tar")
    assert world(settings) == b"security world"
    usual = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name == ".nshield.new":
            raise OSError("the disk fails")
        return usual(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="disk"):
        client_files.import_nshield(settings, kmdata)
    assert world(settings) == b"security world"


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "kmdata/../../evil"])
def test_an_archive_that_reaches_outside_is_refused(settings: Settings, tmp_path: Path, name: str) -> None:
    tar = tmp_path / "evil.tar"
    with tarfile.open(tar, "w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"evil"))
    package = tmp_path / "evil.zip"
    with zipfile.ZipFile(package, "w") as archive_:
        archive_.writestr(name, "evil")
    with pytest.raises(InvalidInput):
        client_files.import_nshield(settings, tar)
    with pytest.raises(InvalidInput):
        client_files.import_luna_package(settings, package)
    assert not list(tmp_path.rglob("evil"))


def test_links_are_refused(settings: Settings, kmdata: Path, tmp_path: Path) -> None:
    (kmdata / "local/link").symlink_to("/etc/shadow")
    with pytest.raises(InvalidInput, match="neither a file nor a folder"):
        client_files.import_nshield(settings, kmdata)
    archive = tmp_path / "links.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(kmdata, arcname="kmdata")
    with pytest.raises(InvalidInput):
        client_files.import_nshield(settings, archive)


def test_luna_paths_are_pointed_at_the_copies_and_wrong_ones_are_named(settings: Settings, tmp_path: Path) -> None:
    certificates = tmp_path / "cert"
    for name in ("client/hostKey.pem", "client/host.pem"):
        (certificates / name).parent.mkdir(parents=True, exist_ok=True)
        (certificates / name).write_text(name)
    (certificates / "server").mkdir()
    configuration = tmp_path / "Chrystoki.conf"
    configuration.write_text(CHRYSTOKI)
    found = client_files.import_luna(settings, certificates, configuration)
    text = (settings.data_dir / "hsm/luna/Chrystoki.conf").read_text()
    assert f"ClientPrivKeyFile = {settings.data_dir}/hsm/luna/cert/client/hostKey.pem;" in text
    assert "SSLConfigFile = /usr/safenet/lunaclient/bin/openssl.cnf;" in text
    assert len(found.warnings) == 1
    assert "/elsewhere/CAFile.pem" in found.warnings[0]
    assert modules._environment(settings, "luna") == {
        "ChrystokiConfigurationPath": str(settings.data_dir / "hsm/luna")
    }


def test_a_cloud_package_is_taken_over(settings: Settings, tmp_path: Path) -> None:
    package = tmp_path / "setup.zip"
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("Chrystoki.conf", CHRYSTOKI)
        archive.writestr("partition-ca-certificate.pem", "pem")
    assert client_files.import_luna_package(settings, package).files == 2
    written = client_files.export(settings, "luna", tmp_path / "out")
    assert (written / "Chrystoki.conf").read_text() == CHRYSTOKI
    with pytest.raises(NotFound):
        client_files.export(settings, "nshield", tmp_path / "out")
