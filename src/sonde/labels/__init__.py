"""Labels: explainers, with a judge or with none, and tests of what they say."""
