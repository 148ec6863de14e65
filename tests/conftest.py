"""What every test may ask for."""

from hypothesis import settings

pytest_plugins = ["tests.databases", "tests.cloud.clouds"]

# What an example may take says more of the machine's neighbours than of the code; a test has its time as a whole.
settings.register_profile("house", deadline=None)
settings.load_profile("house")
