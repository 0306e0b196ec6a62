"""Trust bundles in every format, and the rule that they never mix environments."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile

import httpx
import pytest
import yaml
from cryptography import x509
from starlette.applications import Starlette
from tests.support.authority import OPERATOR, issuing_wish, make_hierarchy, root_wish, tenant
from tests.support.identities import make_domain

from intaglio.authority.cas.create import create_issuing, create_root
from intaglio.core.errors import IntaglioError, InvalidInput, NotFound, StateConflict
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities.authorities import NewCaWish
from intaglio.mtls.identities.bundle_formats import BundleOptions, as_one_file, export, spiffe_document
from intaglio.mtls.identities.bundles import export_bundle
from intaglio.mtls.identities.rotation import finish_rotation, give_ca
from intaglio.mtls.identities.spiffe import spiffe_routes
from intaglio.mtls.identities.values import TrustDomain
from intaglio.server import problems

USUAL = BundleOptions()


async def test_bundle_holds_the_root_and_the_issuing_ca(mtls: Mtls, trust_domain: TrustDomain) -> None:
    bundle = await export_bundle(mtls, OPERATOR, "prod.example")
    snapshot = await mtls.authority.current()
    assert [each.der for each in bundle.anchors] == [snapshot.ca("demo~id-prod-root").certificate.der]
    assert [each.der for each in bundle.issuers] == [snapshot.ca("demo~id-prod").certificate.der]
    [file] = export(bundle, "pem", USUAL)
    assert len(x509.load_pem_x509_certificates(file.content)) == 2


async def test_bundle_of_an_environment_holds_all_its_trust_domains(mtls: Mtls, trust_domain: TrustDomain) -> None:
    await make_domain(mtls, "prod-eu.example")
    await make_domain(mtls, "dev.example", "dev")
    bundle = await export_bundle(mtls, OPERATOR, "prod")
    assert bundle.domains == ("prod-eu.example", "prod.example")
    assert len(bundle.anchors) == 2


async def test_bundle_never_mixes_environments(mtls: Mtls, trust_domain: TrustDomain) -> None:
    await make_domain(mtls, "dev.example", "dev")
    with pytest.raises(StateConflict) as refusal:
        await export_bundle(mtls, OPERATOR, "prod.example", also=["dev.example"])
    assert (refusal.value.code, refusal.value.status) == ("foreign-environment", 409)


async def test_bundle_with_issuing_anchors_does_not_trust_the_shared_root(mtls: Mtls, organization: str) -> None:
    await make_hierarchy(mtls.authority)
    await make_domain(mtls, new_ca=None, issuing_ca="demo~issuing", anchor="issuing")
    bundle = await export_bundle(mtls, OPERATOR, "prod.example")
    snapshot = await mtls.authority.current()
    assert [each.der for each in bundle.certificates] == [snapshot.ca("demo~issuing").certificate.der]


async def test_bundle_has_both_cas_while_rotating(mtls: Mtls, trust_domain: TrustDomain) -> None:
    before = await export_bundle(mtls, OPERATOR, "prod.example")
    await give_ca(mtls, OPERATOR, "prod.example", new_ca=NewCaWish())
    rotating = await export_bundle(mtls, OPERATOR, "prod.example")
    assert len(rotating.anchors) == 2
    await finish_rotation(mtls, OPERATOR, "prod.example")
    after = await export_bundle(mtls, OPERATOR, "prod.example")
    assert len(after.anchors) == 1
    assert len({each.digest for each in (before, rotating, after)}) == 3
    assert before.version < rotating.version < after.version


async def test_bundle_of_somebody_else_is_unknown(mtls: Mtls, trust_domain: TrustDomain) -> None:
    for name in ("prod.example", "prod"):
        with pytest.raises(NotFound):
            await export_bundle(mtls, tenant("mallory"), name)
    await make_domain(mtls, "draft.example", "draft", new_ca=None)
    with pytest.raises(NotFound) as refusal:
        await export_bundle(mtls, OPERATOR, "draft.example")
    assert refusal.value.code == "bundle-empty"


async def test_kubernetes_objects_hold_the_bundle(mtls: Mtls, trust_domain: TrustDomain) -> None:
    bundle = await export_bundle(mtls, OPERATOR, "prod.example")
    [pem], [file] = export(bundle, "pem", USUAL), export(bundle, "k8s", BundleOptions(name="ca", namespace="shop"))
    config_map, secret = yaml.safe_load_all(file.content)
    assert config_map["data"]["ca.crt"].encode() == pem.content
    assert base64.b64decode(secret["data"]["ca.crt"]) == pem.content
    assert {each["metadata"]["namespace"] for each in (config_map, secret)} == {"shop"}
    assert b"|" in file.content  # PEM as people know it
    for wrong in (BundleOptions(name="A b"), BundleOptions(namespace="x\ny"), BundleOptions(name="")):
        with pytest.raises(InvalidInput):
            export(bundle, "k8s", wrong)


async def test_load_balancer_gets_certificates_crls_and_requests(mtls: Mtls, trust_domain: TrustDomain) -> None:
    bundle = await export_bundle(mtls, OPERATOR, "prod.example")
    packed = as_one_file(bundle, export(bundle, "alb", USUAL))
    assert packed.media_type == "application/zip"
    with zipfile.ZipFile(io.BytesIO(packed.content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    assert len(x509.load_pem_x509_certificates(files["trust-store.pem"])) == 2
    named = json.loads(files["add-trust-store-revocations.json"])["RevocationContents"]
    for each in named:
        assert x509.load_pem_x509_crl(files[each["S3Key"]])
    assert json.loads(files["create-trust-store.json"])["CaCertificatesBundleS3Key"] == "trust-store.pem"


async def test_java_trust_stores_are_bound_to_their_password(mtls: Mtls, trust_domain: TrustDomain) -> None:
    bundle = await export_bundle(mtls, OPERATOR, "prod.example")
    [file] = export(bundle, "jks", BundleOptions(password="another one"))
    keyed = "another one".encode("utf-16-be") + b"Mighty Aphrodite" + file.content[:-20]
    assert hashlib.sha1(keyed, usedforsecurity=False).digest() == file.content[-20:]
    for password in ("", "short", "line\nbreak"):
        with pytest.raises(InvalidInput):
            export(bundle, "p12", BundleOptions(password=password))


@pytest.mark.parametrize("key", ["P-256", "P-384", "P-521", "RSA-2048", "Ed25519", "ML-DSA-44"])
async def test_spiffe_bundle_has_a_key_per_anchor(mtls: Mtls, organization: str, key: str) -> None:
    await create_root(mtls.authority, OPERATOR, "demo", root_wish(key_algorithm=key))
    await create_issuing(mtls.authority, OPERATOR, "demo", issuing_wish())
    await make_domain(mtls, new_ca=None, issuing_ca="demo~issuing")
    bundle = await export_bundle(mtls, OPERATOR, "prod.example")
    document = spiffe_document(bundle)
    assert document["spiffe_sequence"] == bundle.version
    if key == "ML-DSA-44":  # has no JWK form
        assert document["keys"] == []
        return
    [entry] = document["keys"]
    assert entry["use"] == "x509-svid"
    assert [base64.b64decode(each) for each in entry["x5c"]] == [bundle.anchors[0].der]
    assert entry["kty"] == {"P": "EC", "R": "RSA", "E": "OKP"}[key[0]]
    if key.startswith("P"):
        octets = {"P-256": 32, "P-384": 48, "P-521": 66}[key]
        assert all(len(base64.urlsafe_b64decode(entry[c] + "==")) == octets for c in "xy")


async def test_bundle_endpoint_needs_no_authentication_and_says_when_nothing_has_changed(
    mtls: Mtls, trust_domain: TrustDomain
) -> None:
    app = Starlette(routes=spiffe_routes(mtls))
    app.add_exception_handler(IntaglioError, lambda _, error: problems.response(error))  # type: ignore[arg-type]
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        first = await client.get("/spiffe/prod.example/bundle.json")
        assert first.status_code == 200
        assert len(first.json()["keys"]) == 1
        tag = {"if-none-match": first.headers["etag"]}
        assert (await client.get("/spiffe/prod.example/bundle.json", headers=tag)).status_code == 304
        await give_ca(mtls, OPERATOR, "prod.example", new_ca=NewCaWish())
        changed = await client.get("/spiffe/prod.example/bundle.json", headers=tag)
        assert len(changed.json()["keys"]) == 2
        assert changed.json()["spiffe_sequence"] > first.json()["spiffe_sequence"]
        for unknown in ("nobody.example", "%2e%2e", "x" * 300, "PROD.example"):
            assert (await client.get(f"/spiffe/{unknown}/bundle.json")).status_code == 404
