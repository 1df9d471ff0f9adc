"""The contract of a judge, how completions are judged, and a judge of rules. Reads no environment variable: a key is passed in."""
