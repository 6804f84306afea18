"""The online store's own parts, without Feast's interface: entity keys, packed rows, and where they lie.

A key is an entity; its value holds one packed section per feature view of that entity. `keys` makes the keys, `types`,
`layout` and `sections` the sections, `shape` and `reading` make columns of them, `backend` says where they are kept.
"""
