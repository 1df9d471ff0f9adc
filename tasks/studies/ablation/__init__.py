"""What PSR needs to match the prompt, and at what drift: layer, rank, objective, rows of data, negatives, over seeds."""
