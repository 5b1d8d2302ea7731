"""The decision: which decode instance receives a request's KV cache, and what the deciding policy may know."""
