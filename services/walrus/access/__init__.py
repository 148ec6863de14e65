"""Who may do what with buckets and objects: policies, lists of grants, ownership, the public access block.

`policy` reads and judges bucket policies, `acl` reads and judges grants, `public` knows what is open to
everybody, `authorise` puts them together for each operation.
"""
