def cells(table: str) -> list[dict[str, str]]:
    """Return the rows of a Markdown table as mappings from column headings to cells."""
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("|")
    ]
    return [dict(zip(lines[0], row, strict=True)) for row in lines[2:]]
