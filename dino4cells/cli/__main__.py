"""`python -m dino4cells.cli`."""

from dino4cells.cli import main

if __name__ == "__main__":
    main()
