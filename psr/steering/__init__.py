"""What is added to the residual stream, and where: forms, modules, hooks, the strength of every token. Trains nothing."""
