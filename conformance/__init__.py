"""Drives a connection, a server or an app through scenarios, and compares what was seen with what has to be seen."""
