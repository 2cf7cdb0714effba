"""The only user of pyfuse3: translates the kernel's calls for the vfs, and decides nothing about what paths mean.

Importing the package loads the C extension. It has to be there before pyfuse3, which nothing outside this package imports.
"""

from __future__ import annotations

from fsd.fuse import interpose

interpose.load()
