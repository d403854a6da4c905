"""Data to machine to sans-I/O connection. Nothing in this package knows asyncio or sockets."""
