"""One function per thing a caller can want. A use case takes its ports as the first argument and knows no HTTP."""
