"""Files of questions and instructions as attributes, one loader a file, and the judges by name."""
