"""Evaluation: ranking all items in chunks, and what metrics need of the ranking."""
