"""The management API (`/api/v1`): one thin adapter over the services of every floor."""
