"""How strongly to steer, how sure a figure is, how faithful a module is, what the paper claims. Fits nothing."""
