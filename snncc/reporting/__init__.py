"""What people read: tables, figures and the HTML page, drawn from typed results."""
