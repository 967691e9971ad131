"""The trust boundary: parsers read hostile files in a child process, and only this package communicates with it.

`parent.py` starts the child and receives events; `steps.py` continues after a child's failure; `child.py` is the
child's program; `protocol.py` defines their messages; `confinement.py` drops the rights that a parser does not need;
`fold.py` adds up the events of a file; `outline.py` turns headings into sections. This module imports nothing: the
child must stay small.
"""
