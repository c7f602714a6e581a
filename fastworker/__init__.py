"""FastWorker: a task queue with no broker to run, structured from end to end."""
