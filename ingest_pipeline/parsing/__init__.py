"""Bytes become pages, in a child process with a kernel limit. This module imports nothing.

`detect.py` names a file's media type; `request.py` is what a parser is asked; `sandbox/` runs parsers in a child
process
and is the only package that talks to one; `formats/` are the parsers, one module for each family of formats, and run
in that child alone.
"""
