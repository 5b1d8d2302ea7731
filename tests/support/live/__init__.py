"""What live tests share: what runs inside a sandbox, and what is measured there."""
