"""Questions to the kernel about the network of this machine, and its notifications of changes (rtnetlink(7))."""
