"""What every transport must do: one suite of bodies, of which only the fixtures differ."""
