"""Where the decisions of a gateway come from."""
