"""The page's server and its wire types."""
