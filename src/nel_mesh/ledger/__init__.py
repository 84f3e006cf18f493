"""The agent's database: which messages there are, what became of each, and what is to be done next."""
