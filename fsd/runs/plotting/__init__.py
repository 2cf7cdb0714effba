"""`fsd exp plot`: a metric over time, what moved it, and how runs learned, as pictures and as a page that holds them.

What is shown is gathered without matplotlib (`curves`, `story`, `page`); `figures` draws it, and is loaded by `loading`
when pictures are asked for.
"""
