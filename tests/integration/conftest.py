"""The PKI that the tests of this folder use and leave as it was."""

from __future__ import annotations

import pytest
from tests.support.pki import Pki


@pytest.fixture(scope="session")
def pki(shared_pki: Pki) -> Pki:
    return shared_pki
