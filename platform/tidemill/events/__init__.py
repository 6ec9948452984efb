"""E-commerce events: clicks from files and from Kafka, windows, reports."""
