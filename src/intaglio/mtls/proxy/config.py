"""What a gateway process is told: addresses, its own certificate, the service behind it, and who decides."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from intaglio.core.errors import InvalidInput
from intaglio.mtls.proxy.decisions import Mode
from intaglio.mtls.proxy.limits import Limits

_FILE_LIMIT = 1 << 18

Network = IPv4Network | IPv6Network
Listen = Annotated[str, Field(pattern=r"^(\[[0-9a-fA-F:.]+\]|[^:\s]+):[0-9]{1,5}$")]


def _network(text: str) -> str:
    ip_network(text)
    return text


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ByFiles(_Strict):
    """Decisions from files: a gateway that needs no server.

    ``trust`` are CA certificates (PEM), ``crls`` their revocation lists (DER or PEM), read again when they change. A
    CRL that is missing, forged or out of date refuses everybody of that CA. ``networks`` may connect; ``identities``
    are the URI, DNS and e-mail names (a ``*`` at the end stands for anything) that may pass.
    """

    trust: Path
    crls: tuple[Path, ...] = Field(min_length=1)
    identities: tuple[str, ...] = Field(min_length=1)
    networks: tuple[Annotated[str, AfterValidator(_network)], ...] = ("0.0.0.0/0", "::/0")
    mode: Mode = Mode.ENFORCE
    refuse_in_handshake: bool = True


class ByServer(_Strict):
    """Decisions of a server: trust, mode, IP rule and policy of a registered ingress are followed from there.

    ``server`` is the https URL of the management API, ``ca`` what vouches for it (PEM), ``token`` the file with the
    token of the ingress.
    """

    server: str = Field(pattern=r"^https://[^/?#]+$")
    ingress: str
    token: Path
    ca: Path | None = None
    refuse_in_handshake: bool = True


class ByPlatform(_Strict):
    """Decisions in the process of the server itself, at the registered ingress ``platform`` (ORGANIZATION~NAME)."""

    platform: str
    refuse_in_handshake: bool = True


class ServiceBehind(_Strict):
    """The service: ``url`` is http(s)://HOST:PORT; ``ca`` vouches for an https one (PEM, default: the system's CAs);
    ``certificate`` and ``key`` (PEM) are what the gateway presents to it; ``keep_host`` passes the Host on as it is."""

    url: str
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    keep_host: bool = True
    patience: float = Field(default=60.0, gt=0, le=3600)

    @model_validator(mode="after")
    def _pair(self) -> ServiceBehind:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together")
        return self


class GatewayConfig(_Strict):
    """A gateway: where it listens, its own certificate (PEM files), the service behind it, and who decides.

    Inside a server, ``certificate`` and ``key`` may be left out: then it is the server's own certificate.
    """

    listen: tuple[Listen, ...] = Field(min_length=1)
    certificate: Path | None = None
    key: Path | None = None
    upstream: ServiceBehind
    decisions: ByFiles | ByServer | ByPlatform
    max_body: int | None = Field(default=1 << 30, gt=0)
    max_connections: int = Field(default=10_000, gt=0)
    #: Of one address; half of all when not set. Raise it where a balancer hides the addresses of clients.
    max_connections_per_address: int | None = Field(default=None, gt=0)
    #: Seconds that what is under way may take when the gateway is told to stop.
    shutdown_timeout: float = Field(default=10.0, ge=0, le=600)

    @model_validator(mode="after")
    def _certified(self) -> GatewayConfig:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together")
        if self.certificate is None and not isinstance(self.decisions, ByPlatform):
            raise ValueError("a gateway of its own needs certificate and key")
        return self

    @property
    def limits(self) -> Limits:
        return Limits(
            body=self.max_body,
            connections=self.max_connections,
            connections_per_address=self.max_connections_per_address,
        )

    @property
    def addresses(self) -> list[tuple[str, int]]:
        split = (each.rpartition(":") for each in self.listen)
        return [(host.strip("[]"), int(port)) for host, _, port in split]


def read_config(path: Path) -> GatewayConfig:
    """Read a YAML file. Paths in it are relative to its folder. Raises InvalidInput naming what is wrong."""
    try:
        with open(path, "rb") as file:
            text = file.read(_FILE_LIMIT + 1)
        if len(text) > _FILE_LIMIT:
            raise InvalidInput(f"{path} exceeds {_FILE_LIMIT} octets.", code="gateway-config-invalid")
        found = yaml.safe_load(text)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.", code="gateway-config-invalid") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{path} is not YAML: {error}.", code="gateway-config-invalid") from None
    return make_config(found, folder=path.parent)


def make_config(found: Any, *, folder: Path) -> GatewayConfig:
    """A configuration out of parsed values. Raises InvalidInput."""
    try:
        return _absolute(GatewayConfig.model_validate(found), folder)
    except ValidationError as error:
        wrong = [(".".join(map(str, each["loc"])), each["msg"]) for each in error.errors(include_url=False)]
        raise InvalidInput(
            f"The configuration of the gateway is wrong: {wrong[0][0]}: {wrong[0][1]}.",
            code="gateway-config-invalid",
            fields=wrong,
        ) from None


def networks_of(decisions: ByFiles) -> tuple[Network, ...]:
    return tuple(ip_network(each) for each in decisions.networks)



def _absolute(model: GatewayConfig, folder: Path) -> GatewayConfig:
    return model.model_copy(update=_resolved(model, folder))


def _resolved(model: BaseModel, folder: Path) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, Path):
            changed[name] = folder / value
        elif isinstance(value, tuple) and value and isinstance(value[0], Path):
            changed[name] = tuple(folder / each for each in value)
        elif isinstance(value, BaseModel):
            changed[name] = value.model_copy(update=_resolved(value, folder))
    return changed
