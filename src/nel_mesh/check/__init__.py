"""The steps of `nel-mesh check`: each is tried for itself, and says what it found and what to do."""
