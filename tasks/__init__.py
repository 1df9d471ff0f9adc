"""Prefect tasks, one verb each: load, call psr, save. The only place that knows files, DuckDB, MLflow and DVC."""
