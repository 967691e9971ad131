"""The web service: a page for people, an API for programs, tools for agents."""
