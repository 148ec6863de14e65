"""The hypervisors behind the driver Protocol."""
