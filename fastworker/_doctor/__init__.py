"""What ``fastworker doctor`` looks at: readers that only read, and checks that only judge."""
