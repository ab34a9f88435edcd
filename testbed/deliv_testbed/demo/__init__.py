"""The demonstration: real files delivered through a local stack, seen from outside."""
