"""The contract of a judge, and how completions are judged. Reads no environment variable: a key is passed in."""
