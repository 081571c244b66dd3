"""Scalable Cross-Entropy and large catalogues for RecBole."""
