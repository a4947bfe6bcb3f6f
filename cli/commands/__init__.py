"""One file per group of commands. Each asks a service over HTTP and shows the answer; none decides anything."""
