"""From a trained network to the one file that is served: pixels in, mask out."""
