//! Importing and exporting models: from the Hub, a folder or a run, with a parity check.
