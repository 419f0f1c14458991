"""Figures of the whole cluster beside its parts; `make bench`, and docs/performance.md."""
