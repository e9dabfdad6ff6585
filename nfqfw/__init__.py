"""nfqfw: netfilter in userspace.  See README.md for the picture; each room says at its top what it holds."""

__version__ = "0.1.0"
