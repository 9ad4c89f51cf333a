"""What a cluster costs as it is, against what we would run: the shadow report.

`compare` is the one door: a cluster at one instant in, a Comparison out. `lifting` says what it
means to lift one family of constraints, `lines` how nodes and launches are told side by side.
"""
