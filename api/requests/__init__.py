"""The owner of requests: from the first offer to the last chunk, over as many attempts as it takes."""
