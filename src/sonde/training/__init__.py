"""One trainer for every kind of dictionary."""
