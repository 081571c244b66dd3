"""The measurements of the laboratory, imported by the scripts of benchmarks/."""
