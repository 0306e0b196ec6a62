"""From a plan to files: configuration, trust bundle, first CRLs, the unit that keeps them fresh, and a page about it.

Templates lie beside this module, one folder for each product. What they print passes one gate: text of a small
alphabet, numbers, or a block that was made here. A quotation mark, a brace or a line end in a value stops it all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from intaglio.core import clock
from intaglio.core.errors import InvalidInput, StateConflict
from intaglio.mtls.ingresses.kinds import KINDS, Kind
from intaglio.mtls.ingresses.latency import FETCH_SECONDS, Latency, latency_of, stale_seconds
from intaglio.mtls.ingresses.plan import UNNAMED_ARN, UNNAMED_BUCKET, Plan, networks

_TEMPLATES = Path(__file__).with_name("templates")
_PLAIN = re.compile(r"[A-Za-z0-9 ._:/\[\]~%@=,()?;*+|-]*")

#: Header fields that tell a service who is calling: nobody outside may set them.
OURS: Final = (
    "Client-Cert", "Client-Cert-Chain", "X-Forwarded-Client-Cert", "X-Forwarded-Tls-Client-Cert",
    "X-Forwarded-Tls-Client-Cert-Info", "X-Client-Cert", "X-Client-Cert-Der", "X-Client-Verify", "X-Intaglio-Token",
    "X-Intaglio-Identity", "X-Intaglio-Kind", "X-Intaglio-Name", "X-Intaglio-Environment", "X-Intaglio-Team",
    "X-Intaglio-Service", "X-Intaglio-Roles", "X-Intaglio-Version", "X-Intaglio-Email", "X-Intaglio-Reason",
    "X-Intaglio-Mode",
)  # fmt: skip


def spellings(name: str) -> list[str]:
    """A header in every mixture of dashes and underscores: services behind CGI and its likes read all as one name."""
    first, *others = name.split("-")
    return [
        first + "".join(f"{mark}{part}" for mark, part in zip(marks, others, strict=True))
        for marks in product("-_", repeat=len(others))
    ]


_FORWARDED: Final = {
    "client-cert": ("Client-Cert", "Client-Cert-Chain"),
    "xfcc": ("X-Forwarded-Client-Cert",),
    "identity": tuple(
        f"X-Intaglio-{name}"
        for name in ("Identity", "Kind", "Name", "Environment", "Team", "Service", "Roles", "Version", "Email")
    ),
}


@dataclass(frozen=True)
class File:
    """A rendered file: its name below the folder, its text, and whether it is run or secret."""

    name: str
    text: str = field(repr=False)
    mode: int = 0o644


@dataclass(frozen=True)
class Rendering:
    """The files for one ingress, what to know of them, and how soon a revocation counts there."""

    kind: str
    folder: str
    files: tuple[File, ...]
    warnings: tuple[str, ...]
    latency: Latency

    def file(self, name: str) -> File:
        """The file of this name. Raises KeyError."""
        return next(file for file in self.files if file.name == name)


class Block(str):
    """Text that was made here and goes into a file as it stands."""


def render(plan: Plan) -> Rendering:
    """The files for a plan. Raises StateConflict (``ingress-not-rendered``, ``source-unsupported``,
    ``partial-chain-unsupported``, ``status-incomplete``), InvalidInput (``value-unsafe``)."""
    kind = kind_of(plan)
    latency = latency_of(plan, kind)
    warnings = tuple(_warnings(plan, kind))
    values = _values(plan, kind, latency, warnings)
    files = [File(name, _filled(template, values), _mode(name, plan)) for name, template in kind.files.items()]
    if plan.source == "live" and plan.layout.token:
        files += [File(name, _filled(template, values), 0o600) for name, template in kind.live_only.items()]
    files.append(File("trust.pem", plan.trust_pem))
    files += _status_files(plan, kind, values)
    if kind.reload.endswith("/apply"):
        files.append(File("apply", _filled(f"{_folder_of(kind)}/apply", values), 0o755))
    files.append(File("README.md", _filled("README.md", values)))
    return Rendering(kind.name, plan.layout.folder, tuple(files), warnings, latency)


def kind_of(plan: Plan) -> Kind:
    """The product of a plan, if it can do what the ingress is set to. Raises StateConflict."""
    ingress = plan.ingress
    kind = KINDS.get(ingress.type)
    if kind is None:
        raise StateConflict(
            f'There is nothing to render for an ingress of type "{ingress.type}".',
            code="ingress-not-rendered",
            remedy=f"The built-in gateway reads its settings itself; files are made for {', '.join(KINDS)}.",
        )
    if plan.source not in kind.sources:
        raise StateConflict(
            f"{kind.title} cannot learn of revocations by {plan.source}.",
            code="source-unsupported",
            remedy=f"Set the revocation source of the ingress to {' or '.join(kind.sources)}.",
        )
    if plan.source != "live" and not plan.has_root and not kind.partial:
        raise StateConflict(
            f'Trust domain "{ingress.domain}" trusts issuing CAs below a shared root, which {kind.title} cannot do.',
            code="partial-chain-unsupported",
            remedy="Give the trust domain a root of its own, or set the revocation source of the ingress to live.",
        )
    if plan.source == "crl" and kind.timer and not plan.status.whole:
        raise StateConflict(
            f'Not every CA of trust domain "{ingress.domain}" publishes a CRL here.',
            code="status-incomplete",
            remedy="Switch CRLs on for its CAs, or set the revocation source of the ingress to live.",
        )
    return kind


# ---- steps -----------------------------------------------------------------------------------------------------------


def _values(plan: Plan, kind: Kind, latency: Latency, warnings: tuple[str, ...]) -> dict[str, Any]:
    layout, ingress = plan.layout, plan.ingress
    forwarded = [header for name in ingress.forward for header in _FORWARDED[name]]
    return {
        "plan": plan,
        "ingress": ingress,
        "layout": layout,
        "kind": kind,
        "folder": layout.folder,
        "enforce": plan.enforce,
        "live": plan.source == "live",
        "crl": plan.source == "crl",
        "ocsp": plan.source == "ocsp",
        "closed": ingress.fail_mode == "closed",
        "networks": list(networks(plan)),
        "has_ip_rule": ingress.ip_rule is not None,
        "ours": OURS,
        "all_spellings": [spelling for name in OURS for spelling in spellings(name)],
        "forwarded": forwarded,
        "forwards": set(ingress.forward),
        "unit": f"intaglio-ingress-{ingress.name}",
        "refresh": plan.ingress.refresh_seconds,
        "stale": stale_seconds(plan, kind),
        "fetch_seconds": FETCH_SECONDS,
        "test": kind.test.format(folder=layout.folder, name=ingress.name),
        "reload": kind.reload.format(folder=layout.folder, name=ingress.name),
        "latency": latency,
        "sentences": [Block(sentence) for sentence in latency.sentences],
        "warnings": [Block(warning) for warning in warnings],
        "block": Block,
        "pem_block": lambda indent: Block(_indented(plan.trust_pem, indent)),
        "crls_block": lambda indent: Block(_indented(plan.crls_pem, indent)),
        "rules": plan.ingress.policy or "",
    }


def _status_files(plan: Plan, kind: Kind, values: dict[str, Any]) -> Iterator[File]:
    if plan.source != "crl" or not kind.timer:
        return
    yield File("crls.pem", plan.crls_pem)
    yield File("no-status.pem", no_status_crl())
    for crl in plan.status.crls:
        yield File(f"issuers/{crl.name}.pem", crl.issuer)
    yield File("refresh", _filled("refresh", values), 0o755)
    unit = values["unit"]
    yield File(f"{unit}.service", _filled("refresh.service", values))
    yield File(f"{unit}.timer", _filled("refresh.timer", values))


def _warnings(plan: Plan, kind: Kind) -> Iterator[str]:
    ingress = plan.ingress
    if not plan.enforce:
        yield "Permissive: everybody is let through, with or without a certificate, until the mode is enforce."
    if ingress.fail_mode == "open" and (not kind.opens or plan.source == "ocsp"):
        yield f"{kind.title} cannot fail open with the revocation source {plan.source}: it refuses everybody meanwhile."
    elif ingress.fail_mode == "open":
        yield "Fail mode open: while the status source is silent, revoked certificates are let through."
    if not plan.upstream.tls and not plan.upstream.is_loopback and kind.name not in _IN_CLUSTER:
        yield f"The hop to {plan.upstream.authority} is plain HTTP: mutual TLS ends here. Name an https service behind."
    if ingress.policy and plan.source != "live":
        yield f'The policy "{ingress.policy}" is decided only with the revocation source live; here it is not.'
    if ingress.ip_rule is not None and not kind.ip_rule:
        yield f"{kind.title} has no IP rule; set the networks of the ingress in the firewall of its host."
    if plan.source != "live" and (missing := sorted(set(ingress.forward) - kind.forwards)):
        yield f"{kind.title} alone cannot forward {', '.join(missing)}; with the revocation source live it can."
    if kind.name == "stunnel" and not plan.enforce:
        yield "stunnel lets clients without a certificate through, yet refuses bad ones also when it is permissive."
    if kind.name == "envoy" and not plan.enforce and "xfcc" in ingress.forward:
        yield "Permissive: X-Forwarded-Client-Cert is not forwarded, since Envoy would set it for unverified ones too."
    if kind.name == "aws-alb" and plan.layout.listener_arn == UNNAMED_ARN:
        yield "The ARN of the listener is a placeholder; name it with --listener-arn."
    if kind.name == "aws-alb" and plan.layout.bucket == UNNAMED_BUCKET:
        yield "The S3 bucket is a placeholder; name it with --bucket."
    if plan.source == "live" and kind.live_only and not plan.layout.token:
        names = ", ".join(kind.live_only)
        yield f"No token was given: {names} is missing. Render with --ingress-token, or write it as the README says."


_IN_CLUSTER = frozenset({"istio", "linkerd", "ingress-nginx", "aws-alb"})


def _mode(name: str, plan: Plan) -> int:
    """Envoy has no include, so its main file has the token in it."""
    return 0o600 if name == "envoy.yaml" and plan.source == "live" else 0o644


def _folder_of(kind: Kind) -> str:
    return kind.name.replace("-", "_")


def no_status_crl() -> str:
    """A CRL of nobody. OpenSSL and BoringSSL, told to look at CRLs and given only this one, find none for any client's
    CA and refuse everybody: that is how an ingress without news is closed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "No status is known")])
    at = clock.now()
    builder = x509.CertificateRevocationListBuilder().issuer_name(name).last_update(at - timedelta(days=1))
    crl = builder.next_update(at + timedelta(days=36_500)).add_extension(x509.CRLNumber(1), critical=False)
    return crl.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def _filled(template: str, values: dict[str, Any]) -> str:
    return _environment().get_template(f"{template}.j2").render(values)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    # The files are configuration, not HTML: what keeps values from ending what they stand in is ``finalize``.
    return Environment(  # noqa: S701
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        finalize=_gate,
        comment_start_string="{##",  # {# is the length of a variable in a shell
        comment_end_string="##}",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _gate(value: object) -> object:
    if isinstance(value, Block | bool | int | float):
        return value
    if isinstance(value, str) and _PLAIN.fullmatch(value):
        return value
    raise InvalidInput(
        "A value has characters that could end the place where it stands in the configuration.",
        code="value-unsafe",
        remedy="Change the names, addresses and paths of the ingress to plain letters, digits, dots and dashes.",
    )


def _indented(text: str, spaces: int) -> str:
    return "\n".join(" " * spaces + line for line in text.splitlines())
