"""The analytic world: an exact max-min fluid model of the fabric and the event loop that drives it."""
