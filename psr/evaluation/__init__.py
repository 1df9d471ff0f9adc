"""The choice of alpha, intervals, faithfulness, drift, and the paper's claims. Fits nothing."""
