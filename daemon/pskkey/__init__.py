"""pskkey: the group-key daemon for multicast DTLS."""

__version__ = "0.1.0"
