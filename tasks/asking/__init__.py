"""Answers and judgements that are made once: a model opened, questions asked, answers judged."""
