"""The contract of a judge, and judges: rules, likelihoods, models that are asked. Reads no environment variable: a key is passed in."""
