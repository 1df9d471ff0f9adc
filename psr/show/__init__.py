"""A module, a curve and an answer as HTML and SVG: for notebook, report and page alike. Measures nothing, runs no script."""
