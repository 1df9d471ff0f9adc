"""Checks of the installation and of a model, before anything runs."""
