import { useState } from "react";
import { api, type Contact } from "./api";
import { Field, useList, useSubmit, View } from "./ui";

const NOTHING = { name: "", email: "", title: "", company: "" };

export function Contacts() {
  const list = useList<Contact>(api.contacts);
  const [contact, setContact] = useState(NOTHING);
  const set = (field: keyof typeof NOTHING) => (value: string) =>
    setContact((before) => ({ ...before, [field]: value }));
  const { submit, busy, error } = useSubmit(async () => {
    await api.addContact(contact);
    setContact(NOTHING);
    await list.reload();
  });
  const form = (
    <form className="card inline" onSubmit={submit}>
      <Field label="Full name" required value={contact.name} onChange={set("name")} />
      <Field label="E-mail" type="email" value={contact.email} onChange={set("email")} />
      <Field label="Job title" value={contact.title} onChange={set("title")} />
      <Field label="Company" value={contact.company} onChange={set("company")} />
      <button type="submit" className="primary" disabled={busy}>
        Add contact
      </button>
      {error && <p role="alert">{error}</p>}
    </form>
  );
  return (
    <View
      title="Contacts"
      list={list}
      columns={["Name", "Job title", "Company", "E-mail"]}
      empty="No contacts yet. Add the first one above; its company comes along if it is new."
      form={form}
      row={(person) => (
        <>
          <td>{person.name}</td>
          <td>{person.title ?? "–"}</td>
          <td>{person._expanded?.company?.name ?? "–"}</td>
          <td>{person.email ? <a href={`mailto:${person.email}`}>{person.email}</a> : "–"}</td>
        </>
      )}
    />
  );
}
