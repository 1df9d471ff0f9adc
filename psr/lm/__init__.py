"""Open a causal language model, speak its chats, read what it computes. Knows nothing of steering."""
