"""What decides. Plain synchronous Python: no sockets, no files, no clock, no `async`."""
