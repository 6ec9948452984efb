"""The batch reports of events: brands, categories, funnel, sessions, cohorts, anomalies."""
