"""Holds a running server against the spec, from outside: both ends of its connections are in the hands of the kit.

agent       the app inside the server; obeys the driver over a channel of its own, and needs nothing but Python
client      the raw TCP client outside
driver      one conversation: acts on both sides, and what each of them saw
script      what was done and what has to come of it, as a machine plays it; `compare` holds both together
plays       what the machine of every profile says to a script, kept
oracle      under which answers to the choices what was seen may be; `blame` says which rule is broken if under none
cases       what is tried: derived from the machine, its messages and the scenarios; `probes` what takes more
trial       one case held with a server; `run` all of them, in parallel, `confirm` what is seen again alone
servers     how each server is started, asked for its health, and ended; `own` serves with our own runtime
fuzz        conversations that Hypothesis makes up with a live server, beside a `bystander` that should feel nothing
results     what was found, as values; `show`, `formats` and `html` show it in `wording`, `baseline` has what is known
profiles    what was measured of a server, in the words of the spec; `releases` of all of today's
pairs       real bugs as a measure of the kit, in `environments` with the releases that have them
"""
