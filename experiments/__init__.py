"""The questions: command-line verbs, specs, sweeps, stored results, comparisons and reports."""
