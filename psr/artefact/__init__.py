"""A module as an artefact that others can load, trust and cite: its card, and the way to the hub. Measures nothing."""
