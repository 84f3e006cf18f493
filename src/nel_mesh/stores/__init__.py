"""Stores of objects: where messages can go, and where content that is sent can come from."""
