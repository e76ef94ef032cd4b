"""Explains to an operator why no TCP connection could be made, or why one broke."""

import errno
import ssl


def explain_connect_failure(error: Exception) -> str:
    """Return the cause, as text to put after the address that was tried."""
    if isinstance(error, TimeoutError):
        return "it does not answer in time; is it switched on, and does a firewall let us through?"
    code = error.errno if isinstance(error, OSError) else None
    match code:
        case errno.ECONNREFUSED:
            return "it refused the connection: no key server listens there"
        case errno.EHOSTUNREACH | errno.ENETUNREACH | errno.EHOSTDOWN | errno.ENETDOWN:
            return "it cannot be reached: there is no route to it, or it is down"
        case errno.EACCES | errno.EPERM:
            return "this machine's own rules (firewall or sandbox) forbid the connection"
        case errno.EMFILE | errno.ENFILE:
            return "this machine has no file descriptor left for another connection"
        case errno.EADDRNOTAVAIL:
            return "the address to connect from is not one of this machine"
        case _:
            return f"no connection could be made ({getattr(error, 'strerror', None) or type(error).__name__})"


def explain_broken(error: Exception) -> str:
    """Return why a connection broke, as text to put after its peer."""
    if isinstance(error, ssl.SSLError):
        cause = (error.reason or "TLS failed").replace("_", " ").lower()
    elif isinstance(error, OSError) and error.strerror:
        cause = error.strerror.lower()
    else:
        cause = type(error).__name__
    return f"the connection broke ({cause})"
