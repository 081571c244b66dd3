"""``python -m recbole_sce.cli`` is ``recbole-sce``."""

from recbole_sce.cli import main

if __name__ == "__main__":
    main()
