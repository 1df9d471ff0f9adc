"""The study of flows.agreement: judges and people compared on the same answers."""
