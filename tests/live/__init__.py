"""Live proofs of the emulated world: real packets inside a sandbox, judged by ratios measured in the same run."""
