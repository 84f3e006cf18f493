# Generated from _async/__init__.py by tools/unasync.py: edit that file, then run `make generate`.
"""The sync client, generated from `_async` by tools/unasync.py; never edited."""
