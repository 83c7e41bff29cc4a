/** What a statement is, as far as that has to be known before it is sent. Pure. */

/** Throws for texts to which the server gives no answer with rows: none at all, and COPY, whose data goes another way. */
export function checkStatement(sql: string): void {
  const [word] = /^\w+/.exec(withoutComments(sql)) ?? [];
  if (word?.toLowerCase() === "copy") {
    throw invalid("COPY is not possible here: use query for rows and insert_rows to add some", "copy_not_supported");
  }
  if (word === undefined && !withoutComments(sql).startsWith("("))
    throw invalid("It holds no statement", "no_statement");
}

/** The text from its first word on. Comments between slashes and stars may hold others. */
function withoutComments(sql: string): string {
  const rest = sql.replace(/^(?:[\s;\ufeff]|--[^\n]*(?:\n|$))+/, "");
  return rest.startsWith("/*") ? withoutComments(rest.slice(commentEnd(rest))) : rest;
}

function commentEnd(text: string): number {
  let depth = 0;
  for (const { 0: mark, index } of text.matchAll(/\/\*|\*\//g)) {
    depth += mark === "/*" ? 1 : -1;
    if (depth === 0) return index + 2;
  }
  return text.length;
}

function invalid(what: string, code: string): Error {
  return new ActionError(`The statement cannot be run. ${what}.`, { code, category: "Validation" });
}
