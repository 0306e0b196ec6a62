from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from pydantic import ValidationError

from intaglio.core.logging import configure_logging, correlation_id, get_logger, set_log_level
from intaglio.core.settings import Settings


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INTAGLIO_CONFIG", str(tmp_path / "intaglio.toml"))


def test_the_environment_wins_over_the_file_and_the_file_over_defaults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "intaglio.toml").write_text('workers = 3\nlog_level = "WARN"\n[gateway]\nport = 1111\n')
    monkeypatch.setenv("INTAGLIO_WORKERS", "5")
    monkeypatch.setenv("INTAGLIO_CONSOLE__PORT", "2222")
    monkeypatch.setenv("INTAGLIO_ONLY", "ocsp, crl")
    settings = Settings()
    assert (settings.workers, settings.log_level, settings.gateway.port) == (5, "WARN", 1111)
    assert (settings.console.port, settings.public.port, settings.only) == (2222, 8080, ["ocsp", "crl"])


@pytest.mark.parametrize("source", ["environment", "file"])
def test_a_listener_keeps_what_is_not_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str) -> None:
    if source == "environment":
        monkeypatch.setenv("INTAGLIO_HEALTH__PORT", "1111")
        monkeypatch.setenv("INTAGLIO_GATEWAY__HOST", "127.0.0.1")
    else:
        (tmp_path / "intaglio.toml").write_text('[health]\nport = 1111\n[gateway]\nhost = "127.0.0.1"\n')
    settings = Settings()
    assert (settings.health.host, settings.health.port) == ("127.0.0.1", 1111)
    assert (settings.gateway.host, settings.gateway.port) == ("127.0.0.1", 8444)


@pytest.mark.parametrize("values", [{"workers": 0}, {"gateway": {"port": 70000}}, {"log_level": "LOUD"}])
def test_wrong_values_stop_the_start(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate(values)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"hostname": "PKI.Example.org."}, "http://pki.example.org:8080"),
        ({"hostname": "pki.example.org", "public": {"port": 80}}, "http://pki.example.org"),
        ({"hostname": "2001:db8::1"}, "http://[2001:db8::1]:8080"),
        ({"public_url": "http://crl.example.org/"}, "http://crl.example.org"),
    ],
)
def test_addresses_in_certificates_follow_the_host_name(values: dict[str, object], expected: str) -> None:
    assert Settings.model_validate(values).public_base == expected


def test_secrets_do_not_show_in_settings() -> None:
    settings = Settings.model_validate({"database_url": "postgresql://u:hunter2@h/d", "master_key": "c2VjcmV0"})
    assert "hunter2" not in repr(settings)
    assert "c2VjcmV0" not in repr(settings)


@pytest.fixture
def _logging_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, configuration = root.handlers[:], root.level, structlog.get_config()
    yield
    root.handlers[:], root.level = handlers, level
    structlog.configure(**configuration)


@pytest.mark.usefixtures("_logging_restored")
def test_a_log_record_is_one_json_object_with_the_correlation_id_and_without_secrets(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging(Settings(log_format="json"))
    token = correlation_id.set("c-1")
    try:
        get_logger("test").warning("something\nhappened", api_token="igt_secret", password="hunter2", host="h")
        logging.getLogger("library").warning("theirs")
    finally:
        correlation_id.reset(token)
    ours, theirs = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (ours["event"], ours["level"], ours["correlation_id"], ours["host"]) == (
        *("something\nhappened", "warning"),
        *("c-1", "h"),
    )
    assert (ours["api_token"], ours["password"]) == ("[redacted]", "[redacted]")
    assert (theirs["event"], theirs["logger"]) == ("theirs", "library")


@pytest.mark.usefixtures("_logging_restored")
def test_the_lowest_level_shown_changes_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(Settings(log_level="ERROR"))
    logging.getLogger("library").warning("quiet")
    set_log_level("INFO")
    logging.getLogger("library").info("loud")
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == ["loud"]
