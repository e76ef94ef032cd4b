"""The simulator: many real cores, a seeded network, virtual time."""
