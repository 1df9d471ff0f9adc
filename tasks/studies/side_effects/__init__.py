"""The study of flows.side_effects: what the prompt and its modules change besides what they are for, at equal effect."""
