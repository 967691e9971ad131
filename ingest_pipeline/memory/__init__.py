"""Memory limits and measurement. This module imports nothing.

`machine.py` computes how many runs the machine can hold; `budget.py` divides the budget of a run; `process.py` and
`cgroup.py` set limits and read peaks; `watch.py` measures the process tree of a run; `degradation.py` decides what a
run gives up before it reaches its limit; `recorder.py` writes down what a run uses as it goes, and `record.py` reads
it; `collector.py` spares the start of a program garbage collections.
"""
