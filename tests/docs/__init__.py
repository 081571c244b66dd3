"""The documentation: its code runs, its commands exist, its prose is short, its site builds."""
