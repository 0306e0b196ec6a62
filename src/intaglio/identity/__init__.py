"""Who acts and what they may do: principals, permissions, users, roles, API tokens."""
