"""Models that are fetched: one and the same file, checked by its hash, as an ordinary folder below data/models."""
