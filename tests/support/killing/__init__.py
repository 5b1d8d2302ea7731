"""Killing `netkv` at random moments: the plan of a moment, and what must be true after it."""
