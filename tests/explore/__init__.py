"""The exhaustive explorer: real cores, three nodes, every order of delivery, loss and crash up to a depth."""
