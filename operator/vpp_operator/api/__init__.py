"""The custom resources of group vpp-operator.dev: models, generated definitions, resolution of tunings."""
