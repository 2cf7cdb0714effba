"""Pins: symlinks in a Git work tree, each to the path that one commit has below the mount.

Knows Git and the store's rules, and nothing of caches and mounts. A pin is plain text that Git versions like any
symlink, so everything Git does with versions (checkout, bisect, worktree, clone) moves the data as well.
"""
