"""`python -m fastism`: the command `fastism`."""

from fastism.cli import run

if __name__ == "__main__":
    run()
