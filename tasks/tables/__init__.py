"""How things lie on disk: schemas, parquet, recorded activations, modules."""
