/**
 * The server's API, asked with plain `fetch`. The token is in memory only: all apps of a server share one origin, so what is in the
 * browser's storage is for all of them.
 */
const APP = "/api/v1/apps/crm";

let token: string | undefined;

export interface Company {
  id: string;
  name: string;
  city: string | null;
  website: string | null;
  people: number;
  openAmount: number;
}

export interface Contact {
  id: string;
  name: string;
  email: string | null;
  title: string | null;
  _expanded?: { company: { name: string } | null };
}

export interface Deal {
  id: string;
  title: string;
  amount: number;
  stage: "open" | "won" | "lost";
}

export interface Person {
  email: string;
  displayName: string | null;
}

/** What the server said was wrong. */
export class Refused extends Error {
  constructor(
    message: string,
    readonly status: number,
  ) {
    super(message);
  }
}

async function ask<T>(method: string, path: string, body?: unknown): Promise<T> {
  const headers = new Headers({ accept: "application/json" });
  if (token) headers.set("authorization", `Bearer ${token}`);
  if (body !== undefined) headers.set("content-type", "application/json");
  const response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  const answer = await response.json().catch(() => null);
  if (!response.ok) throw new Refused(answer?.error ?? response.statusText, response.status);
  return answer as T;
}

const rpc = <T>(method: string, params: unknown = {}) => ask<T>("POST", `${APP}/rpc`, { method, params });

export const api = {
  async signIn(email: string, password: string): Promise<Person> {
    const login = await ask<{ accessToken: string; user: Person }>("POST", "/api/v1/auth/login", { email, password });
    token = login.accessToken;
    return login.user;
  },
  signOut() {
    token = undefined;
  },
  companies: () => rpc<Company[]>("companies"),
  addCompany: (company: { name: string; city?: string; website?: string }) =>
    ask("POST", `${APP}/collections/companies`, company),
  contacts: () =>
    ask<{ data: Contact[] }>("POST", `${APP}/collections/contacts/query`, {
      orderBy: "name",
      order: "asc",
      limit: 200,
      total: false,
      expand: ["company"],
    }).then((found) => found.data),
  addContact: (contact: { name: string; email?: string; title?: string; company?: string }) =>
    rpc("addContact", contact),
  deals: () => ask<Deal[]>("GET", `${APP}/collections/deals?limit=200`),
  addDeal: (deal: { title: string; amount: number; company?: string }) => ask("POST", `${APP}/collections/deals`, deal),
  closeDeal: (id: string, won: boolean) => rpc("closeDeal", { id, won }),
};
