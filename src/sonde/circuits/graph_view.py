def to_page(pruned):
    return ""
