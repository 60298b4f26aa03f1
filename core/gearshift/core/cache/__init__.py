"""What is kept of answers and vectors, so that the same work is not paid for twice: stores, keys, the two caches."""
