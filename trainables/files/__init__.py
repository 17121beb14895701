"""Files written whole, read with findings, checked by hash."""
