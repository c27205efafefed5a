"""The page's API, one file for each noun: its routes, and how what they answer is put into the types of the wire."""
