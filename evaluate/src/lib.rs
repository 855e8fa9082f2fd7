//! Stage evaluate: losses, samples and baselines become a report.
