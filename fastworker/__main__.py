"""``python -m fastworker`` is the command ``fastworker``."""

from fastworker.cli import main

# Guarded, because multiprocessing imports this module again in its children.
if __name__ == "__main__":
    main(prog_name="fastworker")
