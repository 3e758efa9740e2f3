"""The operator process: Nodes x DataplaneTunings -> Dataplanes, rollouts, aggregated status.

One replica leads; the others wait.
"""
