"""`gofer`."""

from gofer.cli import main

main()
