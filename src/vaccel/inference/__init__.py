"""Models: keeping them loaded, and what pictures go through before and after them.

The engines are extras, imported where they are used.
"""
