"""Limits and peaks of memory: what the machine allows, what a run may use, what it uses, what to do about it.

Four modules by their question: `machine` (how much is there), `budget` (how is a run's share divided), `process`
(limits and peaks of one process), `watch` (a run's whole tree, and the degradation that it climbs down).
"""
