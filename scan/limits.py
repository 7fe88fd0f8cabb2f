"""What a body weight and a dose can be, in a header or on the command line."""

WEIGHTS = 0.5, 600  # kg
LEAST_DOSE, MOST_DOSE = 1e6, 1e10  # becquerel; less was written in MBq, more is no dose
