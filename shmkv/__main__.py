"""`python -m shmkv`: the command line, where no `shmkv` is on the path."""

from shmkv.cli import main

if __name__ == "__main__":
    main()
