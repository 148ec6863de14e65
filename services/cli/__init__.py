"""What an operator types: `mallee up`, `run`, `migrate`, `status`.

Commands stand in the files that the plural of their subject names; they talk to a cloud as any client
does, through boto3. Only `composition` knows how the services are made, and only `mallee up` and
`mallee run` ask it. Every import that takes longer than a few milliseconds stands inside its command.
"""
