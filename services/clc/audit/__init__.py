"""The cloud's auditor: what was wished, what the zones hold, and what each account's network gave away."""
