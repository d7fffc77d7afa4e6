"""The client of the Foundry DevTools Container. It knows nothing of Dagster."""
