"""TLS between sockets and protocols, for every listener of the product."""
