"""From an order to a certificate."""

from __future__ import annotations

from cryptography import x509
from tests.enrollment.acme.conftest import House


async def test_an_order_leads_to_a_certificate_for_exactly_its_names(house: House) -> None:
    await house.endpoint()
    client = await house.client(contact=["mailto:admin@example.com"])
    _order, chain = await house.certificate(client, "www.example.com", "*.example.com")
    certificates = x509.load_pem_x509_certificates(chain.encode())
    names = certificates[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["www.example.com", "*.example.com"]
    assert certificates[0].subject.rfc4514_string() == "CN=www.example.com"
