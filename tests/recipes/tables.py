def cells(table: str) -> list[dict[str, str]]:
    """Rows of a Markdown table by the heads of its columns."""
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("|")
    ]
    return [dict(zip(lines[0], row, strict=True)) for row in lines[2:]]
