"""All that is known of MESH, as pure functions over values: no socket, file, clock, chance or thread in here."""
