"""The whole rollout on one machine: `python -m tests.rehearse`."""
