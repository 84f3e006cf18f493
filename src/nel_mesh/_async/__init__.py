"""The one source of the client; `_sync` is generated from it by tools/unasync.py."""
