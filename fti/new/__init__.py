"""From a table of one's own to a project: reads any table, profiles it, says what is wrong with it.

`open_table` finds out how a table is read (`TableSpec`), `profile` what is in it (`Profile`), `print_profile` shows
it. Generated projects read their table again with `read_table(spec, start, end)`.
"""
