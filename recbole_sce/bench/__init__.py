"""The measured claims of recbole_sce, each a command that prints a table."""
