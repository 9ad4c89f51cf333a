"""The demo: the whole job on the embedded cloud, told to a person.

`story` runs it and keeps a `record`; `report` and `charts` draw the record as one HTML file.
"""
