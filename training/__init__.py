"""Makes model bundles: data, estimator, drift reference and manifest."""
