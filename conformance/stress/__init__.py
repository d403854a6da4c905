"""What a server does when things go wrong: load, faults, bad input and hostile peers, measured from outside.

A server runs as a process of its own, with the app in `app.py`. `client.py` is a raw client that keeps no rule,
`watch.py` reads what the process takes, `site.py` has both. `trials.py` lists the trials with the bound that each has
to keep, `load.py` those with many connections, `autobahn.py` the cases of the Autobahn suite, `soak.py` the long one.
`run.py` runs them, `results.py` is what came of them.
"""
