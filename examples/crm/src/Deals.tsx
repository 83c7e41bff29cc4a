import { useState } from "react";
import { api, type Deal } from "./api";
import { Field, money, useList, useSubmit, View } from "./ui";

export function Deals() {
  const list = useList<Deal>(api.deals);
  const [title, setTitle] = useState("");
  const [amount, setAmount] = useState("");
  const { submit, busy, error } = useSubmit(async () => {
    await api.addDeal({ title, amount: Number(amount) });
    setTitle("");
    setAmount("");
    await list.reload();
  });
  const form = (
    <form className="card inline" onSubmit={submit}>
      <Field label="Deal" required value={title} onChange={setTitle} />
      <Field label="Amount" type="number" min={0} required value={amount} onChange={setAmount} />
      <button type="submit" className="primary" disabled={busy}>
        Add deal
      </button>
      {error && <p role="alert">{error}</p>}
    </form>
  );
  return (
    <View
      title="My deals"
      list={list}
      columns={["Deal", "Amount", "Stage", ""]}
      empty="No deals yet. Yours are seen by nobody else."
      form={form}
      row={(deal) => (
        <>
          <td>{deal.title}</td>
          <td>{money(deal.amount)}</td>
          <td>
            <span className={`stage ${deal.stage}`}>{deal.stage}</span>
          </td>
          <td>{deal.stage === "open" && <Close deal={deal} onClosed={list.reload} />}</td>
        </>
      )}
    />
  );
}

function Close({ deal, onClosed }: { deal: Deal; onClosed: () => Promise<void> }) {
  const close = async (won: boolean) => {
    await api.closeDeal(deal.id, won);
    await onClosed();
  };
  return (
    <span className="actions">
      <button type="button" className="quiet" onClick={() => close(true)}>
        Won
      </button>
      <button type="button" className="quiet" onClick={() => close(false)}>
        Lost
      </button>
    </span>
  );
}
