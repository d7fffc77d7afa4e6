"""What runs inside a step: pull the partitions of a run, have them stored, and record what is known of them.

It imports what is declared (dataset, resource, storing), the client and what is below; nothing of assets, schedules or
checks.
"""
