"""Model files between the nodes of a cluster: over HTTP, for who knows the token that the bus tells."""
