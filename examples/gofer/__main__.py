"""`python -m examples.gofer`."""

from examples.gofer.cli import main

main()
