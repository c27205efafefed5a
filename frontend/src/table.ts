// Tables as text.
export type Table = { columns: string[]; rows: (string | number | null)[][] };

// As RFC 4180 has it.
export function toCsv({ columns, rows }: Table): string {
  const cell = (value: string | number | null) => {
    const text = value === null ? "" : String(value);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [columns, ...rows].map((row) => row.map(cell).join(",") + "\r\n").join("");
}

// One object for each row.
export function toJson({ columns, rows }: Table): string {
  const objects = rows.map((row) => Object.fromEntries(columns.map((name, place) => [name, row[place]])));
  return JSON.stringify(objects, null, 1) + "\n";
}
