"""ASN.1 schemas, DER on hot paths, and the algorithms that have an AlgorithmIdentifier."""
