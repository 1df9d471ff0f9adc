"""What a single layer needs to match the prompt: variants of PSR, compared over seeds."""
