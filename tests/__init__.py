"""All tests of pskkey."""
