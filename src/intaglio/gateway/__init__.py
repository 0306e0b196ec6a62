"""The CA gateway: who may ask which CA for what, and the /cagw/v1 wire format."""
