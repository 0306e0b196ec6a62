"""A timestamp issuer certified through the gateway, by a profile that was opened for it."""

from __future__ import annotations

import base64

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from tests.gateway.support import Client, b64, wish
from tests.support.authority import OPERATOR

from intaglio.authority import custom_profiles
from intaglio.authority.cas.edit import edit_ca
from intaglio.authority.cas.values import CaChanges
from intaglio.authority.context import Authority
from intaglio.core.secrets import MasterKey
from intaglio.db.engine import Database
from intaglio.db.listen import Watch
from intaglio.timestamping import issuers
from intaglio.timestamping.context import Timestamps
from intaglio.timestamping.issuers import NewIssuer
from intaglio.timestamping.values import SignerOptions, TokenProfile

_POLICY = "1.3.6.1.4.1.99999.1"


async def test_a_timestamp_issuer_is_certified_through_the_gateway(
    authority: Authority, integrator: Client, master_key: MasterKey, database: Database
) -> None:
    timestamps = Timestamps(authority, master_key, Watch(database))
    new = NewIssuer(name="standard", profile=TokenProfile(policy=_POLICY), signer=SignerOptions())
    await issuers.create_issuer(timestamps, OPERATOR, new)
    request = await issuers.request_certificate(timestamps, OPERATOR, "standard", new_key=False)
    purpose = {"oid": "2.5.29.37", "critical": True, "value": ExtendedKeyUsageOID.TIME_STAMPING.dotted_string}
    body = wish(csr=b64(request), optionalCertificateRequestDetails={"extensions": [purpose]})

    await _offer(authority, "signatures", [])
    refused = await integrator.enroll(body | {"profileId": "signatures"})
    assert refused.status == 403
    assert "timeStamping" in refused.json["error"]["message"]

    await _offer(authority, "timestamps", ["timeStamping"])
    made = await integrator.enroll(body | {"profileId": "timestamps"})
    assert made.status == 200, made.json
    usage = made.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert (usage.critical, list(usage.value)) == (True, [ExtendedKeyUsageOID.TIME_STAMPING])
    certificate = base64.b64decode(made.json["enrollment"]["body"])
    chain = (await authority.current()).ca("demo~issuing").chain
    imported = await issuers.import_certificate(timestamps, OPERATOR, "standard", certificate, chain)
    assert imported.certificate is not None
    assert imported.certificate.der == certificate
    assert [each.level for each in await issuers.validate_issuer(timestamps, OPERATOR, "standard")] == []


async def _offer(authority: Authority, profile_id: str, purposes: list[str]) -> None:
    """Have the issuing CA offer a profile for signatures with these purposes opened."""
    changes = {"eku_allow": purposes}
    await custom_profiles.clone_profile(authority, OPERATOR, "wstep-digital-signature", profile_id, changes)
    await custom_profiles.activate_profile(authority, OPERATOR, profile_id)
    await edit_ca(authority, OPERATOR, "demo~issuing", CaChanges(profiles=[profile_id]))
