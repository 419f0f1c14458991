"""Which instance a request is offered to first."""
