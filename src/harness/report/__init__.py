"""Results as terminal tables, figures and HTML pages."""
