"""A selective forwarding unit for health services: rooms decided in Python, packets forwarded in Rust."""
