"""Kafka, for every domain: the embedded broker and the topics; it knows no domain."""
