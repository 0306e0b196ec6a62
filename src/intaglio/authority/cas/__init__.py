"""CA instances: creating, showing, editing, renewing and deleting them."""
