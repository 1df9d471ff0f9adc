"""The paper step by step, the flow over all steps, and the commands."""
