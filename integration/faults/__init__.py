"""What the tests of a mount over a failing network share: a world to break, and readers who watch it."""
