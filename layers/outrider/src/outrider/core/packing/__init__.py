"""The packing kernel: the cheapest bins for classes of pods, with a proof of how cheap they can
be.

A `Problem` is arrays: classes of equal pods, types of bins, what fits where, what it costs.
`pack` answers with a `Packing`: patterns, how often each is bought, what stays out and why, the
price and a lower bound on it. This package knows nothing of Pods, NodePools or zones:
`core.scheduling` turns them into arrays and patterns back into launches. It reads no clock; work
is bounded by counted steps.

The doors are `problem.Problem` and `pack.pack`. They are not re-exported here: numpy and the
solver take a third of a second to import, and callers that never pack should not pay for them.
"""
