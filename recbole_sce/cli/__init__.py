"""The command line ``recbole-sce``."""
