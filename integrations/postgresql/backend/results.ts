/** Collects rows as long as they fit into an answer. */

/** The platform takes 1 MiB for a whole answer. */
const LARGEST = 900 * 1024;

export type Row = Record<string, unknown>;

export class Results {
  readonly rows: Row[] = [];
  truncated = false;
  private bytes = 0;

  constructor(private readonly limit: number) {}

  /** Takes a row unless the answer is full; says whether it did. */
  add(row: Row): boolean {
    if (this.truncated) return false;
    const bytes = Buffer.byteLength(JSON.stringify(row)) + 1;
    if (this.rows.length === 0 && bytes > LARGEST) throw tooLarge(bytes);
    this.truncated = this.rows.length === this.limit || this.bytes + bytes > LARGEST;
    if (this.truncated) return false;
    this.rows.push(row);
    this.bytes += bytes;
    return true;
  }
}

function tooLarge(bytes: number): Error {
  return new ActionError(
    `The first row alone has ${bytes} bytes; an answer holds ${LARGEST}. Select fewer columns, or parts of them with left() or substring().`,
    { code: "row_too_large", category: "Validation" },
  );
}
