"""Where received messages go: a folder, a store, or a handler of the caller's."""
