"""deliv: an archived MeerKAT product, delivered to the caller's GridFTP directory."""

__version__ = "0.1.0"
