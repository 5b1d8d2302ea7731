"""Seeded chaos: plans of faults drawn from a seed, runs of them, the check of their history, and the smallest plan.

`plans` draws, `trial` runs and checks, `shrinking` makes smaller, `campaign` goes on where it was ended.
"""
