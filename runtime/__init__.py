"""Carries out on asyncio and wsproto what the machine decides, and decides nothing itself."""
