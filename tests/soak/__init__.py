"""An hour of mixed traffic with faults, of which every message is accounted for.

`make soak` runs it, `python -m soak --help` says what there is to choose, `docs/soak.md` what came
of it. A server, clients of several kinds and a relay that breaks connections are processes of their
own; `conductor.py` starts them, watches their memory, ends them, and compares what both ends of
each stream say.
"""
