"""Extraction: an LLM's answer about one section of a document. This module imports nothing.

`spec.py` reads what is asked, and of which documents; `sections.py` divides a document into the parts that are asked
about. `base.py` is the interface of an extractor, `gemini.py` and `openai_chat.py` implement it, `load.py` loads one.
`ask.py` asks, checks and asks once more; `answers.py` checks an answer and finds entities in a text.
"""
