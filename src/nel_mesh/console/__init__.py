"""The console: web pages over the ledger, for the people who look after the agent."""
