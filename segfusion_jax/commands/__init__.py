"""The program `segfusion`: released models on anybody's images, and on collections with labels."""
