"""One neutral table, rendered as text, Markdown, LaTeX and CSV."""
