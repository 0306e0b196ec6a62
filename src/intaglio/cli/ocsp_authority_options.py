"""The options of status authorities, and the configuration that they make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from intaglio.cli.commands import OptionSet
from intaglio.cli.files import read_text
from intaglio.core.errors import InvalidInput

_DEFAULT_PROFILES = {"native": "nextUpdate", "gateway": "nextUpdate", "crl": "CRLProfile"}

def _source(text: str, *names: str) -> Any:
    return typer.Option(*names, help=text, rich_help_panel="Source")


def _answers(text: str, *names: str) -> Any:
    return typer.Option(*names, help=text, rich_help_panel="Answers")


@dataclass(frozen=True)
class Place(OptionSet):
    """What another source needs."""

    ca: Annotated[str | None, _source("One of our CAs: ORGANIZATION~ID.")] = None
    gateway: Annotated[str | None, _source("Base URL of the gateway that tells events.")] = None
    gateway_ca: Annotated[str | None, _source("Id of the CA there; default: NAME.")] = None


@dataclass(frozen=True)
class Reading(OptionSet):
    """How a source is read."""

    issuer: Annotated[list[str] | None, _source("Certificate of the CA (PEM); repeat for former keys.")] = None
    crl: Annotated[str | None, _source("URL of its CRL.")] = None
    delta: Annotated[str | None, _source("URL of its delta CRL.")] = None
    directory: Annotated[str | None, _source("Directory with its CRL, instead of a URL.")] = None
    entry: Annotated[str | None, _source("Distinguished name of the entry there.")] = None
    attribute: Annotated[str | None, _source("Attribute with the CRL.")] = None
    covers: Annotated[str | None, _source("What the CRLs are about: all, user or ca certificates.")] = None
    serial_list: Annotated[str | None, _source("URL of the list of issued numbers.")] = None
    crl_issuer: Annotated[
        list[str] | None, _source("Certificate (PEM) of one who signs indirect CRLs for the CA; repeat for more.")
    ] = None
    max_age: Annotated[
        str | None, _source("Believe CRLs that do not say when they end for so long, such as 1d.")
    ] = None
    max_crl_mib: Annotated[int | None, _source("Largest CRL that is read, in MiB.")] = None
    warning_time: Annotated[str | None, _source("Warn when the CRL ends sooner.")] = None
    credential: Annotated[str | None, _source("Client credential; default: the latest.")] = None
    outbound: Annotated[str | None, _source("Outbound credential: ORGANIZATION~NAME.")] = None
    batch_size: Annotated[int | None, _source("Events per request.")] = None
    push_by_serial: Annotated[
        bool | None, _source("Keep serial numbers only.", "--push-by-serial/--push-certificates")
    ] = None
    stale_after: Annotated[str | None, _source("A feed that fails for longer is not answered from.")] = None
    server_ca: Annotated[str | None, _source("CA of the server (PEM).")] = None
    every: Annotated[str | None, _source("Wait between looks, such as 10s or 5m.")] = None
    on_error: Annotated[str | None, _source("Wait after a failure.")] = None
    timeout: Annotated[str | None, _source("Patience with servers.")] = None


@dataclass(frozen=True)
class Answers(OptionSet):
    """How certificates are answered about."""

    profile: Annotated[str | None, _answers("Status profile; default by source.", "--profile", "-p")] = None
    responder_id: Annotated[
        str | None, _answers("Answers name their signer by the hash of its `key`, or by its `name`.")
    ] = None
    digest: Annotated[
        str | None, _answers("Digest of the signature: sha256, sha384 or sha512; `key`: the one that suits the key.")
    ] = None
    pss: Annotated[bool | None, _answers("Sign with RSASSA-PSS; RSA keys only.", "--pss/--no-pss")] = None
    signed_requests: Annotated[
        bool | None, _answers("Answer signed requests only.", "--signed-requests/--no-signed-requests")
    ] = None
    requestor_ca: Annotated[
        list[str] | None, _answers("CA whose certificates requests are signed with (PEM); repeat for more.")
    ] = None
    shared_signer: Annotated[
        str | None, _answers("Label of the shared signer that signs; `none`: only one of its own.")
    ] = None
    http_error: Annotated[
        bool | None, _answers("Tell failures by HTTP status.", "--http-error/--no-http-error")
    ] = None
    retry_unknown: Annotated[
        bool | None, _answers("Wait for the unknown.", "--retry-unknown/--no-retry-unknown")
    ] = None
    enabled: Annotated[bool | None, _answers("Whether it answers.", "--enable/--disable")] = None


def configuration(base: dict[str, Any], *sets: OptionSet) -> dict[str, Any]:
    """``base`` with what was given on the command line. Raises InvalidInput for what does not go together."""
    given = {name: value for each in sets for name, value in each.given().items()}
    body = dict(base)
    kinds = {
        "native": given.get("ca"),
        "crl": given.get("crl") or given.get("directory"),
        "gateway": given.get("gateway"),
    }
    asked = [kind for kind, said in kinds.items() if said]
    if len(asked) > 1:
        raise InvalidInput("--ca, --crl or --directory, and --gateway exclude each other.", code="option-conflict")
    if asked:
        body["source"] = asked[0]
    if "source" not in body:
        raise InvalidInput("Say where status comes from: --ca, --crl, --directory or --gateway.", code="option-needed")
    if "ca" in given:
        body["ca"] = given["ca"]
    if "issuer" in given:
        body["issuers"] = _certificates(given["issuer"])
    if body["source"] == "crl":
        body["crl"] = _crl(given, dict(body.get("crl") or {}))
    elif body["source"] == "gateway":
        body["gateway"] = _gateway(given, dict(body.get("gateway") or {}), body["name"])
    if "enabled" in given:
        body["enabled"] = given["enabled"]
    body["responder"] = {**body.get("responder", {}), **_responder(given)}
    body["profile"] = given.get("profile") or body.get("profile") or _default_profile(body)
    return body


def _default_profile(body: dict[str, Any]) -> str:
    listed_too = body["source"] == "crl" and body["crl"].get("serial_list")
    return "SNListProfile" if listed_too else _DEFAULT_PROFILES[body["source"]]


def _responder(given: dict[str, Any]) -> dict[str, Any]:
    names = ("http_error", "retry_unknown", "responder_id", "digest", "pss", "signed_requests", "shared_signer")
    said = {name: given[name] for name in names if name in given}
    if said.get("digest") == "key":
        said["digest"] = None
    if said.get("shared_signer") == "none":
        said["shared_signer"] = ""
    if "requestor_ca" in given:
        said["requestor_cas"] = _certificates(given["requestor_ca"])
    return said


def _crl(given: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    place = {"url": "crl", "delta_url": "delta", "directory": "directory", "entry": "entry", "attribute": "attribute"}
    said = {member: given[option] for member, option in place.items() if option in given}
    if said:
        parts = options.get("crls") or [{}]
        if len(parts) > 1:
            raise InvalidInput("It has several CRLs; change them with --file.", code="option-conflict")
        # A new place replaces the one before.
        moved = "url" in said or "directory" in said
        options["crls"] = [{**({} if moved else parts[0]), **said}]
    if "crl_issuer" in given:
        options["crl_issuers"] = _certificates(given["crl_issuer"])
    return {**options, **_common(given, ("covers", "serial_list", "warning_time", "max_age", "max_crl_mib"))}


def _gateway(given: dict[str, Any], options: dict[str, Any], name: str) -> dict[str, Any]:
    if "gateway" in given:
        options["url"] = given["gateway"]
    options["ca"] = given.get("gateway_ca") or options.get("ca") or name
    own = ("credential", "outbound", "batch_size", "push_by_serial", "stale_after")
    return {**options, **_common(given, own)}


def _common(given: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    waits = {"wait_to_pull": "every", "wait_on_error": "on_error", "timeout": "timeout"}
    said = {name: given[name] for name in names if name in given}
    said |= {member: given[option] for member, option in waits.items() if option in given}
    return said | ({"server_ca": read_text(given["server_ca"])} if "server_ca" in given else {})


def _certificates(paths: list[str]) -> str:
    return "".join(read_text(path) for path in paths)
