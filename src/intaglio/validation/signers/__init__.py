"""Keys that sign OCSP answers for status authorities: made, certified, replaced before they end."""
