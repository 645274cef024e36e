"""What mypy and pyright say about programs that use flipcall."""
