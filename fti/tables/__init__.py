"""Reading other people's tables: the reader that projects of `fti new` run on."""
