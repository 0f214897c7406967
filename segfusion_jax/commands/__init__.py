"""The program `segfusion`: one module a command.

Nothing imports it but `main.py`; modules are imported after the arguments are read.
"""
