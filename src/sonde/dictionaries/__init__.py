"""One class for each kind of dictionary, the same in training and in use."""
