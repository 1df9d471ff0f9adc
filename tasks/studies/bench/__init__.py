"""The speed of psr on this machine, as ratios to reference operations timed in alternating pairs."""
