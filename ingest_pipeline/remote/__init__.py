"""Calls of servers that embed or answer: limits, errors, one layer of retries. This module imports nothing.

`calls.py` calls within the server's limits and again after errors that pass; `openai_client.py` makes the client of
the OpenAI protocol and names its errors; `transport.py` bounds the time and the size of an answer; `slots.py` keeps a
few calls in flight.
"""
