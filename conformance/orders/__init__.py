"""Every order that asyncio may choose."""
