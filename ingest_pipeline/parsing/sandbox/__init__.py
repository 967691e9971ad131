"""The trust boundary: parsers read hostile files in a child process, and only this package communicates with it.

`parent.py` sends requests and receives events; `launch.py` starts and ends the child; `steps.py` continues after its
failure; `child.py` is its program; `protocol.py` defines the messages; `confinement.py` drops the rights that a parser
does not need; `cut.py` checks what the child has cut; `fold.py` adds up the events of a file; `outline.py` turns
headings into sections. This module imports nothing: the child must stay small.
"""
