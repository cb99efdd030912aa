"""The outputs of image models → results. One row of FORMATS for each layout that is read."""

from __future__ import annotations
