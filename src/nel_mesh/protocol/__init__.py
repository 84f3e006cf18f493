"""The rules of MESH as pure functions over values: no sockets, files, clocks, randomness or threads.

Sections named in these modules ("Send message", "Error codes") are those of NHS England's
MESH API specification.
Every branch is covered by tests of values alone (tests/protocol, measured by `make check`).
"""
