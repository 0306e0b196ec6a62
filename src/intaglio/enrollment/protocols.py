"""The protocols, and what the common core has to know of each: data, imported when it is needed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from intaglio.core.errors import InvalidInput
from intaglio.enrollment.values import EndpointOptions, Protocol


@dataclass(frozen=True)
class ProtocolTraits:
    """One protocol: its options (module and class), and words that cannot be names of its endpoints because they mean
    something else in its URLs. ``plain_http``: also served without TLS, since its messages protect themselves."""

    options_module: str
    options_class: str
    reserved: frozenset[str] = frozenset()
    plain_http: bool = False

    def options_type(self) -> type[EndpointOptions]:
        """The options of its endpoints, imported."""
        found: type[EndpointOptions] = getattr(importlib.import_module(self.options_module), self.options_class)
        return found


_EST_OPERATIONS = frozenset(
    {"cacerts", "simpleenroll", "simplereenroll", "fullcmc", "serverkeygen", "csrattrs", "crts", "crls"}
)

PROTOCOLS: Final[Mapping[Protocol, ProtocolTraits]] = {
    Protocol.ACME: ProtocolTraits("intaglio.enrollment.acme.options", "AcmeOptions"),
    Protocol.EST: ProtocolTraits("intaglio.enrollment.est.options", "EstOptions", _EST_OPERATIONS),
    Protocol.SCEP: ProtocolTraits(
        "intaglio.enrollment.scep.options", "ScepOptions", frozenset({"mdm", "intune", "nop"}), plain_http=True
    ),
    Protocol.CMP: ProtocolTraits("intaglio.enrollment.cmp.options", "CmpOptions", frozenset({"p"}), plain_http=True),
}


def read_options(protocol: Protocol, values: Mapping[str, Any]) -> EndpointOptions:
    """The options of an endpoint. Raises InvalidInput (``endpoint-options-invalid``) naming every faulty one."""
    try:
        return PROTOCOLS[protocol].options_type().model_validate(values)
    except ValidationError as error:
        wrong = [
            ("/" + "/".join(map(str, each["loc"])), each["msg"].removeprefix("Value error, "))
            for each in error.errors(include_input=False)
        ]
    raise InvalidInput(
        f"The options of an endpoint of {protocol} cannot be so: {wrong[0][1]} (at {wrong[0][0]}).",
        code="endpoint-options-invalid",
        remedy=f"Look at the options: intaglio enroll endpoint options {protocol}.",
        target=f"options{wrong[0][0]}",
        fields=wrong,
    )
