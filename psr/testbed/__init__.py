"""The testbed: a small instruct language, a tiny language model that speaks it, and judges that cannot be wrong.

The grammar, the verifiers and the judges are pure Python; only `tokenizer`, `train`, `build` and `measure` need torch.
"""
