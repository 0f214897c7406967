"""A model behind HTTP, with the extra [serve]: uploads in, answers out, a queue before the device, and a page.

It knows no files and no commands. Nothing is written to disk, and what was uploaded is named in no log.
"""
