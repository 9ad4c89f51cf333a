"""Makers: one function for each resource type that a template may hold.

maker      what they share: the stack, its rooms, its names
messaging  queues, topics, buses, rules, schedules
compute    functions, their event sources, state machines, the HTTP API
keeping    identity, storage, observation
"""
