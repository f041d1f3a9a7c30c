"""One module per framework, all with the same interface, and the process in which one of them is measured."""
