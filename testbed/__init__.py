"""The emulated world: sandbox, bring-up, runs on real packets, and the checks that say how far to trust them."""
