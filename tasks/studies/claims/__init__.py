"""The paper's claims, tested on a finished profile."""
