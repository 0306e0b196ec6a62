"""Boot settings: environment (``INTAGLIO_...``), then ``intaglio.toml``, then defaults.

Only what a process needs before it can reach the database lives here. Everything that users change at run time is a
row in the database.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, SecretStr, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)


def _comma_list(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _comma_pairs(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in _comma_list(value)]
    if any(not equals for _, equals, _ in pairs):
        raise ValueError("write NAME=VALUE, several with commas between them")
    return {name.strip(): text.strip() for name, _, text in pairs}


CommaList = Annotated[list[str], NoDecode, BeforeValidator(_comma_list)]
CommaPairs = Annotated[dict[str, str], NoDecode, BeforeValidator(_comma_pairs)]


class Listener(BaseModel):
    """One TCP listener. Port 0 asks the kernel for a free one; ``enabled=False`` leaves it out."""

    host: str = "0.0.0.0"  # noqa: S104 - servers listen on every address unless told otherwise
    port: int = Field(ge=0, le=65535)
    enabled: bool = True


class Settings(BaseSettings):
    """Boot settings of every Intaglio process.

    Nested values use ``__``: ``INTAGLIO_GATEWAY__PORT=7443``.
    """

    model_config = SettingsConfigDict(
        env_prefix="INTAGLIO_",
        env_nested_delimiter="__",
        # Who changes only the port of a listener keeps its address: that of health must not become every address.
        nested_model_default_partial_update=True,
        extra="ignore",
        validate_default=True,
    )

    data_dir: Path = Field(default=Path("/var/lib/intaglio"), description="Folder of keys, embedded database, sockets.")
    database_url: SecretStr | None = Field(
        default=None,
        description="PostgreSQL 15+ URL (postgresql://user:password@host[,host]/name?sslrootcert=ca.pem&...); the "
        "server is always verified unless it is on this host. Without it an embedded PostgreSQL runs under the data "
        "folder.",
    )
    database_pool_size: int = Field(default=8, ge=2, le=200, description="Connections per process.")
    database_timeout: float = Field(default=10.0, gt=0, description="Seconds a statement or a wait for one may take.")
    master_key_file: Path | None = Field(default=None, description="Master key file; default: DATA_DIR/master.key.")
    master_key: SecretStr | None = Field(default=None, description="Master key itself, base64, instead of the file.")

    pkcs11_modules: CommaPairs = Field(
        default_factory=dict,
        description="PKCS #11 libraries that may be loaded, NAME=PATH; those of known products are found besides.",
    )
    pkcs11_environment: CommaPairs = Field(
        default_factory=dict,
        description="Environment variables for PKCS #11 libraries, VARIABLE=VALUE or MODULE:VARIABLE=VALUE.",
    )

    hostname: str = Field(
        default_factory=socket.getfqdn, description="Public name in CRL, OCSP and AIA URLs and the server certificate."
    )
    public_url: str | None = Field(
        default=None, description="Base of CRL, OCSP and AIA URLs; default: http://HOSTNAME[:PUBLIC_PORT]."
    )
    public: Listener = Listener(port=8080)
    public_tls: Listener = Listener(port=8445, enabled=False)
    public_rate: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="Requests a second that one address may make of a process over the listeners public and "
        "public_tls; OCSP is then answered tryLater, everything else 429. 0: any number.",
    )
    console: Listener = Listener(port=8443)
    enroll: Listener = Listener(port=1443)
    gateway: Listener = Listener(port=8444)
    access: Listener = Listener(host="127.0.0.1", port=8181)
    health: Listener = Listener(host="127.0.0.1", port=9444)
    mtls_gateway: Path | None = Field(
        default=None, description="Configuration (YAML) of an mTLS gateway to run inside the server."
    )
    admin_socket: Path | None = Field(default=None, description="Unix socket; default: DATA_DIR/admin.sock.")
    tls_certificate: Path | None = Field(
        default=None, description="Server certificate chain (PEM). Without it the platform's own CA makes one."
    )
    tls_key: Path | None = Field(default=None, description="Private key of tls_certificate (PEM).")
    gateway_trust: Path | None = Field(
        default=None, description="Further client CA certificates (PEM) trusted by the gateway listener."
    )

    actuator: CommaList = Field(
        default_factory=lambda: ["health", "prometheus"],
        description="What the health listener offers under /cagw/management/actuator (health, prometheus).",
    )
    health_groups: CommaList = Field(
        default_factory=lambda: ["custom"], description="Names of the health groups under /cagw/management/actuator."
    )

    workers: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1, le=256, description="Serving processes.")
    only: CommaList = Field(
        default_factory=list, description="Services to run; empty = all (ocsp, crl, tsa, gateway, api, jobs)."
    )
    request_timeout: float = Field(default=30.0, gt=0, description="Seconds after which a request is answered 504.")
    shutdown_timeout: float = Field(default=15.0, ge=0, description="Seconds in-flight requests may take at shutdown.")
    request_limit: int = Field(default=1 << 20, ge=1 << 12, description="Largest request body in octets.")

    log_level: Literal["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL", "OFF"] = "INFO"
    log_format: Literal["json", "console"] = "json"

    @field_validator("hostname")
    @classmethod
    def _lower(cls, value: str) -> str:
        return value.strip().lower().rstrip(".")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls, _toml_file()))

    @property
    def master_key_path(self) -> Path:
        return self.master_key_file or self.data_dir / "master.key"

    @property
    def admin_socket_path(self) -> Path:
        return self.admin_socket or self.data_dir / "admin.sock"

    @property
    def public_base(self) -> str:
        """Base URL (no trailing slash) that goes into certificates."""
        if self.public_url:
            return self.public_url.rstrip("/")
        host = f"[{self.hostname}]" if ":" in self.hostname else self.hostname
        return f"http://{host}" if self.public.port == 80 else f"http://{host}:{self.public.port}"


def _toml_file() -> Path:
    if explicit := os.environ.get("INTAGLIO_CONFIG"):
        return Path(explicit)
    if data_dir := os.environ.get("INTAGLIO_DATA_DIR"):
        return Path(data_dir) / "intaglio.toml"
    return Path("/etc/intaglio/intaglio.toml")
