"""Splits for everyone: tables of HAM10000, ISIC 2019 and ISIC 2020 in which no lesion, patient or picture is parted.

`README.md` says what is in the tables, `tables` finds them, `making` makes them from the official tables.
"""
