"""Scalable Cross-Entropy: buckets, their search, the fused loss, and what completes its sum."""
