"""The questions: command line, specifications, sweeps, the store of runs and what is drawn from them."""
