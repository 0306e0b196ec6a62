"""The modules that define groups of live settings: importing this makes all groups known, whatever else a process has
imported."""

from intaglio.enrollment import settings as enrollment
from intaglio.gateway import settings as gateway
from intaglio.mtls import settings as mtls
from intaglio.platform import outgoing
from intaglio.timestamping import settings as timestamping
from intaglio.validation import settings as validation

__all__ = ["enrollment", "gateway", "mtls", "outgoing", "timestamping", "validation"]
