"""Parsing: bytes become pages, in a child process with a kernel limit. This module imports nothing.

`detect.py` finds a file's media type; `request.py` is the request to a parser; `sandbox/` runs parsers in a child
process and is the only package that communicates with it; `formats/` are the parsers, which only that child runs.
"""
