"""The application: command line, search loop, executors, run folder, export."""
