"""The paper, step by step: a flow per stage, and the flow that runs them all."""
