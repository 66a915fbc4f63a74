"""The command line, the demo and the local broker: everything a person runs by hand."""

__version__ = "0.1.0"
