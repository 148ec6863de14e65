"""Mallee, an EC2-compatible private cloud.

The rooms, from the street to the cellar; an arrow of imports only ever points down:

- `cli`: what an operator types: `mallee up`, `run`, `migrate`, `status`.
- `clc`: cloud controller. Knows EC2's words; owns what users asked for.
- `cc`: cluster controller, one a zone. Knows nodes; owns where an instance is and its migration.
- `nc`: node controller, one a host. Knows a hypervisor; owns what really runs.
- `sc`, `walrus`: storage controller and object store.
- `console`: the web pages, a client of the public APIs.
- `aws`: the AWS wire, without a cloud's words. `rpc`: generated from `proto/`. `domain`: nouns two rooms share.
- `kernel`: mechanisms that would be the same in a bank: clock, database, sagas, RPC, keys.
"""

__version__ = "0.1.0"
