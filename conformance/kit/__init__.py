"""Holds a running server against the spec, from outside: both ends of its connections are in the hands of the kit.

agent       the app inside the server; obeys the driver over a channel of its own, and needs nothing but Python
servers     how each server is started, asked for its health, and ended
cases       what is tried: derived from the machine, its messages and the scenarios
driver      one conversation: acts on both sides, and what each of them saw
oracle      what the machine says to that, under which answers to its choices, and which rule is broken if none
run         all cases on one server: in parallel, confirmed alone, with restarts
results     what was found, as values
"""
