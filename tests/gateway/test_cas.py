"""CAs in every state, as clients of the gateway see them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from tests.gateway.support import CA_PATH, Client, wish
from tests.support.authority import OPERATOR, issuing_wish

from intaglio.authority.cas.create import create_issuing
from intaglio.authority.cas.edit import edit_ca
from intaglio.authority.cas.external import add_external_root
from intaglio.authority.cas.renewal import rekey_ca
from intaglio.authority.cas.values import CaChanges, NewExternalRoot
from intaglio.authority.context import Authority
from intaglio.authority.crls import issue_crl, latest_crl
from intaglio.authority.options import CaOptions
from intaglio.core import clock
from intaglio.core.principal import SYSTEM


def outside_root() -> str:
    """The certificate of a root whose key is not here."""
    key, now = ec.generate_private_key(ec.SECP256R1()), clock.now()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "outside")])
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


async def serial_of(client: Client) -> str:
    return str((await client.enroll(wish())).enrolled["serialNumber"])


async def test_a_ca_that_waits_for_its_certificate_is_listed_and_down(
    authority: Authority, clients: dict[str, Client]
) -> None:
    await add_external_root(authority, OPERATOR, "demo", NewExternalRoot(name="outside", certificate=outside_root()))
    wished = issuing_wish("waiting", issuer="outside", administrators=["integrator"], auditors=[])
    await create_issuing(authority, OPERATOR, "demo", wished)
    client, path = clients["integrator"], f"{CA_PATH}/demo~waiting"
    assert "demo~waiting" in [ca["id"] for ca in (await client.get(CA_PATH)).json["caList"]]
    shown = (await client.get(f"{path}?$fields=ca.certificate,ca.chain")).json["ca"]
    assert shown["properties"]["state"] == "awaiting-certificate"
    assert "certificate" not in shown
    assert (await client.get(f"{path}/status")).json["status"] == "DOWN"
    assert (await client.get(f"{path}/capabilities")).status == 200
    properties = (await client.get(f"{path}/properties")).json["CAPropertiesInformation"]["properties"]
    assert properties["notAfter"] == ""
    assert (await client.get(f"{path}/crl")).code == "cagw-4020"
    assert (await client.get(f"{path}/certificate-events")).json["events"] == []
    refused = await client.enroll(wish(), "demo~waiting")
    assert (refused.status, refused.code) == (409, "cagw-4025")


async def test_a_ca_that_publishes_no_crl_still_revokes(authority: Authority, integrator: Client) -> None:
    options = CaOptions(crl_interval_hours=None)
    await edit_ca(authority, OPERATOR, "demo~issuing", CaChanges(options=options))
    serial = await serial_of(integrator)
    answer = await integrator.act(serial, type="RevokeAction", issueCrl=True)
    assert (answer.status, answer.json["action"]["status"]) == (200, "COMPLETED")


async def test_a_crl_on_request_covers_every_key_and_partition(authority: Authority, integrator: Client) -> None:
    options = CaOptions(crl_partitions=2)
    await edit_ca(authority, OPERATOR, "demo~issuing", CaChanges(options=options))
    old = await serial_of(integrator)
    await rekey_ca(authority, OPERATOR, "demo~issuing")
    ca = (await authority.snapshot()).ca("demo~issuing")
    await issue_crl(authority, SYSTEM, ca, 1)
    await integrator.act(old, type="RevokeAction", issueCrl=True)

    async def lists(generation: int, partition: int) -> Any:
        async with authority.database.read() as view:
            crl = await latest_crl(view, ca, generation, partition)
        assert crl is not None
        return x509.load_der_x509_crl(crl.der).get_revoked_certificate_by_serial_number(int(old, 16))

    assert await lists(1, 0) is not None
    assert [bool(await lists(1, 1)), bool(await lists(1, 2))].count(True) == 1


async def test_a_rekeyed_ca_goes_on_under_its_new_key(authority: Authority, integrator: Client) -> None:
    before = await integrator.enroll(wish(includeCa=True))
    await rekey_ca(authority, OPERATOR, "demo~issuing")
    after = await integrator.enroll(wish(includeCa=True))
    assert after.enrolled["chain"][0] != before.enrolled["chain"][0]
    renewed = await integrator.act(before.enrolled["serialNumber"], type="RenewAction", includeCa=True)
    assert renewed.json["enrollment"]["chain"] == after.enrolled["chain"]
