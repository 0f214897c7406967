"""What a part that somebody else wrote must be: its protocols, and the contracts that these and our own meet.

A config names such a part as "package.module:name" where it otherwise names one of ours.
"""
