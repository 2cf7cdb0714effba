"""The life of a mount: composed, started, made known, unmounted. Only `mount.py` imports what a daemon needs."""
