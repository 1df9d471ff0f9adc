"""What is shown of the results: the SQL index, the tracker, the report, tables."""
