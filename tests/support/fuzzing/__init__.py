"""Generated bad input: cases by seed, what reads them, and what a refusal must look like."""
