"""How fast the client is: beside the official one and beside curl, on the same work (`make bench`)."""
