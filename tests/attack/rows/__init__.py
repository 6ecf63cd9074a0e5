"""Every row of the table of bad inputs and faults, tried on running servers."""
