"""The pure core, through its public methods; time is a number."""
