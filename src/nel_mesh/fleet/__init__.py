"""Several agents with one ledger on PostgreSQL: which of them does what, decided by procrastinate."""
