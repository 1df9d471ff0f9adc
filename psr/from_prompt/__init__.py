"""From an instruction to a module: answers, wordings, the fit, its strength, and figures on questions that chose nothing."""
