"""The benchmarks, one object a file, and the judges by name."""
