"""What the enrolment page is told about CAs."""

from __future__ import annotations

from tests.support.authority import OPERATOR

from intaglio.authority.cas.delete import delete_ca
from intaglio.mtls.context import Mtls
from intaglio.mtls.enrolment.policy import anchors_of, public_policy, trust_files
from intaglio.mtls.identities.authorities import NewCaWish
from intaglio.mtls.identities.domains import get_domain
from intaglio.mtls.identities.rotation import give_ca
from intaglio.mtls.identities.values import TrustDomain


async def test_a_deleted_ca_of_a_rotating_trust_domain_is_not_to_be_trusted_and_hinders_nobody(
    mtls: Mtls, trust_domain: TrustDomain
) -> None:
    before = (await trust_files(mtls, trust_domain.name)).anchors
    await give_ca(mtls, OPERATOR, trust_domain.name, new_ca=NewCaWish())
    assert len((await trust_files(mtls, trust_domain.name)).anchors) == 2
    await delete_ca(mtls.authority, OPERATOR, trust_domain.issuing_ca)
    after = (await trust_files(mtls, trust_domain.name)).anchors
    assert len(after) == 1
    assert not set(before) & set(after)
    assert (await public_policy(mtls, trust_domain.name)).ca.sha256
    domain = await get_domain(mtls, OPERATOR, trust_domain.name)
    assert not set(before) & set(anchors_of(await mtls.authority.current(), [domain]))
