"""What is shown of what was made and measured: cards, tables, figures."""
