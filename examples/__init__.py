"""Programs a user would write, on flipcall's public doors alone."""
