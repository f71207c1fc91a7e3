"""Verification: that compiled files are what this project makes of their plans."""
