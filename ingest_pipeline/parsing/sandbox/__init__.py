"""The trust boundary: parsers read hostile files in a child process, and only this package talks to it.

`parent.py` starts the child and receives events; `steps.py` goes on after a child's failure; `child.py` is the child's
program; `protocol.py` is what they say to each other; `confinement.py` takes away what a parser does not need;
`outline.py` makes headings into sections. This module imports nothing: the child must stay small.
"""
