"""``python -m streamlight``."""

from streamlight.cli import main

if __name__ == "__main__":
    main()
