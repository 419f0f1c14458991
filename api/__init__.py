"""The HTTP door of a cluster: the Litestar application and the owner of requests."""
