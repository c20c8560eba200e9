"""The private listener: control API, event stream, metrics and the dashboard."""
