"""The validation authority of one process."""

from __future__ import annotations

import pytest

from intaglio.authority.context import Authority
from intaglio.core.secrets import MasterKey
from intaglio.db.listen import Watch
from intaglio.validation.context import Validation


@pytest.fixture
def validation(authority: Authority, master_key: MasterKey, watch: Watch) -> Validation:
    return Validation(authority, master_key, watch)
