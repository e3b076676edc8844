"""`python -m fastism.cli`."""

from fastism.cli import run

if __name__ == "__main__":
    run()
