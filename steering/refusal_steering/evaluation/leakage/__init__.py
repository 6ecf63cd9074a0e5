"""Whether requests of a suite were in a calibration: looked for before anything is asked."""
