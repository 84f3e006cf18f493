"""The command line, `nel-mesh`: a face on the client for people and for scripts. It adds no rule of its own.

`app` has the table of commands; each command is a function in a small module of its group, imported when it is used.
"""
