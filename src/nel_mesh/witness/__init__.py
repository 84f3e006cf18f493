"""Scenarios that show, with real messages, that a mailbox and this client work together; and a report of them."""
