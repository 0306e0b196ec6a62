"""Where the status of other CAs' certificates comes from: CRLs, lists of serial numbers, event feeds of gateways."""
