"""The only door to NATS: server, connection, log, state, leases, queue, blobs."""
