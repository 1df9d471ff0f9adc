"""What a single layer needs to do what the prompt does: variants of PSR beyond the paper, fitted and compared over seeds."""
