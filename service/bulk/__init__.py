"""Captions for many files without HTTP: `python -m service.bulk FOLDER_OR_LIST --out captions.jsonl`.

arguments.py     what a run may be told
files.py         which pictures, and their bytes
captioning.py    from files to rows, every core busy
rows.py          a row as JSON, CSV and Parquet
output.py        a file of rows that a later run goes on with
descriptions.py  captions inside copies of the pictures, as XMP
on_ray.py        the same on the machines of a Ray cluster
"""
