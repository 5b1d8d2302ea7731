"""What tests share: made-up runs and sweeps, drivers of processes, probes for the live tests. Holds no test."""
