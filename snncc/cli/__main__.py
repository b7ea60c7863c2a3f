"""``python -m snncc.cli``: the console script where no script is installed."""

from snncc.cli.main import main

if __name__ == "__main__":
    main()
