"""The cost strategy: the cheapest plan that can be found in time, never dearer than first fit.

Several packers work on one problem; each leaves a complete, valid run, and the cheapest that places
the most important pods is taken. `greedy` asks of every pod where it adds least to the bill.
"""
