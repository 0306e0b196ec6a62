"""The attribute types of distinguished names: OIDs, every spelling people use, string types and upper bounds.

Traps settled here: ``SN`` is surname, not serialNumber; ``S`` is stateOrProvinceName, ``T`` is title, ``E`` is
emailAddress. Sources: RFC 5280 appendix A.1, RFC 4514 section 3, ITU-T X.520, RFC 2985 (unstructured names), CA/Browser
Forum EV guidelines (jurisdiction), Verified Mark Certificate requirements (trademark and statute attributes).
"""

from __future__ import annotations

from dataclasses import dataclass

from intaglio.asn1 import der

#: Upper bound where no standard gives one (ub-name of RFC 5280 is 32768, more than anything real).
_UB_NAME = 1024


@dataclass(frozen=True)
class AttributeType:
    """One attribute type: ``name`` is how it is printed, ``aliases`` what else is read (compared without case)."""

    oid: str
    name: str
    aliases: tuple[str, ...] = ()
    string_tag: int = der.UTF8_STRING
    upper_bound: int = _UB_NAME
    is_country: bool = False


def _country(oid: str, name: str, *aliases: str) -> AttributeType:
    return AttributeType(oid, name, aliases, der.PRINTABLE_STRING, 2, is_country=True)


#: The 34 attribute types every profile accepts.
ATTRIBUTE_TYPES: tuple[AttributeType, ...] = (
    AttributeType("2.5.4.3", "CN", ("CommonName",), upper_bound=64),
    AttributeType("2.5.4.4", "SN", ("SurName",), upper_bound=_UB_NAME),
    AttributeType("2.5.4.5", "SERIALNUMBER", ("DeviceSerialNumber",), der.PRINTABLE_STRING, 64),
    _country("2.5.4.6", "C", "Country", "CountryName"),
    AttributeType("2.5.4.7", "L", ("Locality", "LocalityName"), upper_bound=128),
    AttributeType("2.5.4.8", "ST", ("S", "State", "StateOrProvince", "StateOrProvinceName"), upper_bound=128),
    AttributeType("2.5.4.9", "STREET", ("StreetAddress",), upper_bound=128),
    AttributeType("2.5.4.10", "O", ("Org", "Organization", "OrganizationName"), upper_bound=64),
    AttributeType(
        "2.5.4.11",
        "OU",
        ("OrganizationalUnit", "OrganizationUnit", "OrgUnit", "OrganizationalUnitName"),
        upper_bound=64,
    ),
    AttributeType("2.5.4.12", "T", ("Title",), upper_bound=64),
    AttributeType("2.5.4.15", "BUSINESSCATEGORY", upper_bound=128),
    AttributeType("2.5.4.17", "POSTALCODE", upper_bound=40),
    AttributeType("2.5.4.42", "givenName", ("G", "GN")),
    AttributeType("2.5.4.43", "I", ("Initials",)),
    AttributeType("2.5.4.97", "ORGANIZATIONIDENTIFIER"),
    AttributeType("0.9.2342.19200300.100.1.1", "UID", ("UserId",), upper_bound=256),
    AttributeType("0.9.2342.19200300.100.1.25", "DC", ("DomainComponent",), der.IA5_STRING, 255),
    AttributeType("1.2.840.113549.1.9.1", "Email", ("E", "EmailAddress"), der.IA5_STRING, 255),
    AttributeType("1.2.840.113549.1.9.2", "unstructuredName", upper_bound=255),
    AttributeType("1.2.840.113549.1.9.8", "unstructuredAddress", upper_bound=255),
    AttributeType(
        "1.3.6.1.4.1.311.60.2.1.1", "JurisdictionOfIncorporationLocalityName", ("jurisdictionL",), upper_bound=128
    ),
    AttributeType(
        "1.3.6.1.4.1.311.60.2.1.2",
        "JurisdictionOfIncorporationStateOrProvinceName",
        ("jurisdictionST",),
        upper_bound=128,
    ),
    _country("1.3.6.1.4.1.311.60.2.1.3", "JurisdictionOfIncorporationCountryName", "jurisdictionC"),
    AttributeType("1.3.6.1.4.1.53087.1.2", "TrademarkOfficeName"),
    _country("1.3.6.1.4.1.53087.1.3", "TrademarkCountryOrRegionName"),
    AttributeType("1.3.6.1.4.1.53087.1.4", "TrademarkRegistration"),
    AttributeType("1.3.6.1.4.1.53087.1.5", "LegalEntityIdentifier"),
    AttributeType("1.3.6.1.4.1.53087.1.6", "WordMark"),
    AttributeType("1.3.6.1.4.1.53087.1.13", "MarkType"),
    _country("1.3.6.1.4.1.53087.3.2", "StatuteCountryName"),
    AttributeType("1.3.6.1.4.1.53087.3.3", "StatuteStateOrProvinceName", upper_bound=128),
    AttributeType("1.3.6.1.4.1.53087.3.4", "StatuteLocalityName", upper_bound=128),
    AttributeType("1.3.6.1.4.1.53087.3.5", "StatuteCitation"),
    AttributeType("1.3.6.1.4.1.53087.3.6", "StatuteURL"),
)

#: Further types of RFC 5280 that are read and printed by name.
FURTHER_ATTRIBUTE_TYPES: tuple[AttributeType, ...] = (
    AttributeType("2.5.4.41", "name"),
    AttributeType("2.5.4.44", "generationQualifier"),
    AttributeType("2.5.4.46", "dnQualifier", ("DNQ",), der.PRINTABLE_STRING, 64),
    AttributeType("2.5.4.65", "pseudonym", upper_bound=128),
)

BY_OID: dict[str, AttributeType] = {t.oid: t for t in (*ATTRIBUTE_TYPES, *FURTHER_ATTRIBUTE_TYPES)}
BY_ALIAS: dict[str, AttributeType] = {
    alias.lower(): attribute_type
    for attribute_type in BY_OID.values()
    for alias in (attribute_type.name, *attribute_type.aliases)
}

COMMON_NAME = "2.5.4.3"
