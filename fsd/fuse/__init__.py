"""The only user of pyfuse3: translates the kernel's calls for the vfs, and decides nothing about what paths mean.

Importing the package loads the C extension, which has to be there before pyfuse3. Nobody outside imports pyfuse3.
"""

from __future__ import annotations

from fsd.fuse import interpose

interpose.load()
