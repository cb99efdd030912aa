"""What a resource may be made of, beside files and memory: folders, archives, URLs."""
