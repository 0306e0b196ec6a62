"""Kubernetes resources with which cert-manager gets certificates of a registered service by itself.

Source: cert-manager API ``cert-manager.io/v1`` (Certificate, Issuer, ClusterIssuer).
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import yaml

from intaglio.core.errors import InvalidInput
from intaglio.mtls.identities.lifetimes import lifetime_for
from intaglio.mtls.identities.values import Identity

IssuerKind = Literal["vault", "acme", "ca"]
_OBJECT = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class CertManagerOptions:
    """How the resources are made.

    ``issuer`` is the kind of issuer: vault (our Vault-compatible interface), acme, or ca (a CA whose key is in the
    cluster). ``server`` is the URL of the enrolment listener, ``ca_bundle`` (PEM) what its certificate chains to.
    ``lifetime`` None is what the trust domain gives. ``cluster`` makes a ClusterIssuer.
    """

    issuer: IssuerKind
    server: str
    ca_bundle: str
    namespace: str = "default"
    issuer_name: str = "internal-ca"
    secret: str = ""
    lifetime: timedelta | None = None
    cluster: bool = False


def resources(identity: Identity, options: CertManagerOptions) -> str:
    """The YAML of an issuer and of the Certificate of a service.

    Raises InvalidInput (names; a kind of identity without DNS names), Refused (``lifetime-above-ceiling``).
    """
    if identity.kind not in ("service", "workload"):
        raise InvalidInput(
            f'"{identity.name}" is a {identity.kind}; cert-manager gets certificates for services and workloads.',
            code="cert-manager-kind",
            target="identity",
        )
    secret = options.secret or f"{identity.name}-tls"
    for target, text in (
        ("name", identity.name), ("namespace", options.namespace), ("issuer_name", options.issuer_name),
        ("secret", secret),
    ):  # fmt: skip
        if not _OBJECT.fullmatch(text):
            raise InvalidInput(
                f'"{text[:80]}" cannot be the name of a Kubernetes object.',
                code="name-invalid",
                remedy="Use up to 63 of a-z, 0-9 and -.",
                target=target,
            )
    documents = [_issuer(identity, options), _certificate(identity, options, secret)]
    return yaml.safe_dump_all(documents, sort_keys=False, width=110)


def _certificate(identity: Identity, options: CertManagerOptions, secret: str) -> dict[str, Any]:
    lifetime = lifetime_for(identity.domain, identity.kind, options.lifetime)
    kind = "ClusterIssuer" if options.cluster else "Issuer"
    spec: dict[str, Any] = {
        "secretName": secret,
        "duration": _go_duration(lifetime),
        "renewBefore": _go_duration(lifetime / 3),
        "commonName": identity.name,
        "uris": [identity.uri],
        "usages": ["digital signature", "client auth"],
        "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
        "issuerRef": {"name": options.issuer_name, "kind": kind, "group": "cert-manager.io"},
    }
    if identity.dns_names:
        spec["dnsNames"] = list(identity.dns_names)
        spec["usages"].append("server auth")
    if options.issuer == "acme":
        # ACME certifies DNS names only; what else is certified the server knows from the registry.
        del spec["commonName"], spec["uris"]
    metadata = {"name": identity.name, "namespace": options.namespace}
    return {"apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": metadata, "spec": spec}


def _issuer(identity: Identity, options: CertManagerOptions) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": options.issuer_name}
    if not options.cluster:
        metadata["namespace"] = options.namespace
    bundle = base64.b64encode(options.ca_bundle.encode()).decode()
    server = options.server.rstrip("/")
    spec: dict[str, Any]
    if options.issuer == "vault":
        role = {
            "path": "approle",
            "roleId": str(identity.id),
            "secretRef": {"name": f"{identity.name}-bootstrap", "key": "secretId"},
        }
        path = f"pki/sign/{identity.name}"
        spec = {"vault": {"server": server, "path": path, "caBundle": bundle, "auth": {"appRole": role}}}
    elif options.issuer == "acme":
        solver = {"http01": {"ingress": {"ingressClassName": "nginx"}}}
        spec = {
            "acme": {
                "server": f"{server}/acme/directory",
                "caBundle": bundle,
                "privateKeySecretRef": {"name": f"{options.issuer_name}-account"},
                "solvers": [solver],
            }
        }
    else:
        spec = {"ca": {"secretName": f"{options.issuer_name}-ca"}}
    kind = "ClusterIssuer" if options.cluster else "Issuer"
    return {"apiVersion": "cert-manager.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


def _go_duration(span: timedelta) -> str:
    """A duration as Go writes it."""
    minutes = int(span.total_seconds() // 60)
    return f"{minutes // 60}h" if minutes % 60 == 0 else f"{minutes // 60}h{minutes % 60}m"
