import { useState } from "react";
import { api, type Person } from "./api";
import { Companies } from "./Companies";
import { Contacts } from "./Contacts";
import { Deals } from "./Deals";
import { SignIn } from "./SignIn";

const VIEWS = { Companies, Contacts, Deals };
type View = keyof typeof VIEWS;

export function App() {
  const [person, setPerson] = useState<Person>();
  const [view, setView] = useState<View>("Companies");
  if (!person) return <SignIn onSignedIn={setPerson} />;
  const Shown = VIEWS[view];
  const signOut = () => {
    api.signOut();
    setPerson(undefined);
  };
  return (
    <div className="shell">
      <header>
        <span className="brand">CRM</span>
        <nav aria-label="Views">
          {(Object.keys(VIEWS) as View[]).map((name) => (
            <button
              type="button"
              key={name}
              aria-current={name === view ? "page" : undefined}
              onClick={() => setView(name)}
            >
              {name}
            </button>
          ))}
        </nav>
        <span className="person">{person.displayName ?? person.email}</span>
        <button type="button" className="quiet" onClick={signOut}>
          Sign out
        </button>
      </header>
      <main>
        <Shown />
      </main>
    </div>
  );
}
