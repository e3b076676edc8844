"""`python -m fastism.cli`."""

from fastism.cli import main

if __name__ == "__main__":
    main(prog_name="fastism")
