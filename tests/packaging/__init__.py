"""The packages: wheel, source archive, .deb, and the systemd units in it."""
