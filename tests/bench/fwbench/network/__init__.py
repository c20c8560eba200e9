"""What the rows about the mesh run in processes of their own: nodes, ends of links, strangers."""
