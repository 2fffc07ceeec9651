"""Versions side by side: while processes are replaced one after the other, the version before meets the new tables."""
