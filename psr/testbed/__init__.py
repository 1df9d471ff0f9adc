"""The testbed: a small instruct language, a tiny language model that speaks it, and exact judges.

The grammar, the verifiers and the judges are pure Python; only `tokenizer`, `train`, `build` and `measure` need torch.
"""
