"""What a judge promises, and how completions are shown to one. Reads no environment: a key is handed in."""
