"""Checks that training survives kills and odd settings, imported by the scripts of benchmarks/."""
