import { useState } from "react";
import { api, type Company } from "./api";
import { Field, money, useList, useSubmit, View } from "./ui";

export function Companies() {
  const list = useList<Company>(api.companies);
  const [name, setName] = useState("");
  const [city, setCity] = useState("");
  const { submit, busy, error } = useSubmit(async () => {
    await api.addCompany({ name, ...(city && { city }) });
    setName("");
    setCity("");
    await list.reload();
  });
  const form = (
    <form className="card inline" onSubmit={submit}>
      <Field label="Company name" required value={name} onChange={setName} />
      <Field label="City" value={city} onChange={setCity} />
      <button type="submit" className="primary" disabled={busy}>
        Add company
      </button>
      {error && <p role="alert">{error}</p>}
    </form>
  );
  return (
    <View
      title="Companies"
      list={list}
      columns={["Name", "City", "People", "My open deals"]}
      empty="No companies yet. Add the first one above."
      form={form}
      row={(company) => (
        <>
          <td>{company.name}</td>
          <td>{company.city ?? "–"}</td>
          <td>{company.people}</td>
          <td>{money(company.openAmount)}</td>
        </>
      )}
    />
  );
}
