"""What calls must survive: deaths, stops, hostile peers, shortage."""
