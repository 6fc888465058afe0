"""Data: from the files that a recipe names to tokenized rows with exact loss masks.

`reading` finds data and converts its rows, `templates` renders conversations, `encoding` tokenizes rows and
prepares the data of a step, `store` holds the result on the disk. Each may import those to the right of it:
encoding → templates → reading → store; all of them import the modules of this folder that describe rows,
options and the ledger, and these import none of them. `survey` and `writing` serve `aligner data`.
"""
