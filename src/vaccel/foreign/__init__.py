"""Calls of C functions in shared libraries, which run in processes of their own."""
