"""Where test requests come from: the contrast set, files, public data sets."""
