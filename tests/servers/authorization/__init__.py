"""Authorization servers for tests, each one the SDK's server with what the field adds to it."""
