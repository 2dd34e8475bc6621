"""What drives: asyncio, HTTP, WebSocket, DTLS, SCTP, files and signals. It takes no decisions."""
