"""The choice of alpha, intervals, faithfulness, drift, agreement of judges, and the paper's claims. Fits nothing."""
