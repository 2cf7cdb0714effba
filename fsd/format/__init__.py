"""Bytes to objects and back: no I/O, no trio. `docs/format.md` describes every byte."""
