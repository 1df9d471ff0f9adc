"""Prompt Steering Replacement: distil a prompt into a module that steers the model without it."""
