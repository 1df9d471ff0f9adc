"""Rows of figures from what was answered, judged and run."""
