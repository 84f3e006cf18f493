"""The ledger's schema, version by version. A version adds; the agent of the version before can run beside it."""
