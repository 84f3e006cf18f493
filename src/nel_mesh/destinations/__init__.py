"""Where received messages go: a folder, or a handler of the caller's."""
