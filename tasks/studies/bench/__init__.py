"""How fast psr is on this machine, as ratios: what is measured beside what it has to keep up with, in alternating pairs."""
