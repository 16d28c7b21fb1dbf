// What the pages share: elements, the table of figures, and checksums.

export const MIB = 1024 * 1024;

export const element = (id) => document.getElementById(id);

/** Fills the table `figures` with a row for each entry. */
export function showFigures(figures) {
  const rows = Object.entries(figures).map(([name, value]) => {
    const row = document.createElement("tr");
    for (const text of [name, value]) row.insertCell().textContent = text;
    return row;
  });
  element("figures").replaceChildren(...rows);
}

/** Returns the SHA-256 of bytes as hexadecimal digits. */
export async function sha256(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
