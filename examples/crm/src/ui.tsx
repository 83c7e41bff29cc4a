/** What every view uses: a list that is loaded, a form that is sent, a field, and the page around them. */
import {
  type FormEvent,
  type InputHTMLAttributes,
  type ReactNode,
  useCallback,
  useEffect,
  useId,
  useState,
} from "react";

export function useList<T>(load: () => Promise<T[]>) {
  const [items, setItems] = useState<T[]>();
  const [error, setError] = useState<string>();
  const reload = useCallback(async () => {
    try {
      setItems(await load());
      setError(undefined);
    } catch (cause) {
      setError(cause instanceof Error ? cause.message : String(cause));
    }
  }, [load]);
  useEffect(() => void reload(), [reload]);
  return { items, error, reload };
}

export function useSubmit(work: () => Promise<unknown>) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<string>();
  const submit = async (event?: FormEvent) => {
    event?.preventDefault();
    setBusy(true);
    setError(undefined);
    try {
      await work();
    } catch (cause) {
      setError(cause instanceof Error ? cause.message : String(cause));
    }
    setBusy(false);
  };
  return { submit, busy, error };
}

interface FieldProps extends Omit<InputHTMLAttributes<HTMLInputElement>, "onChange"> {
  label: string;
  onChange: (value: string) => void;
}

export function Field({ label, onChange, ...rest }: FieldProps) {
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      <input id={id} {...rest} onChange={(event) => onChange(event.target.value)} />
    </div>
  );
}

interface ViewProps<T> {
  title: string;
  list: { items: T[] | undefined; error: string | undefined };
  columns: string[];
  row: (item: T) => ReactNode;
  empty: string;
  form: ReactNode;
}

export function View<T extends { id: string }>({ title, list, columns, row, empty, form }: ViewProps<T>) {
  return (
    <>
      <h1>{title}</h1>
      {form}
      {list.error && <p role="alert">{list.error}</p>}
      {!list.items && !list.error && <p className="hint">Loading…</p>}
      {list.items?.length === 0 && <p className="hint">{empty}</p>}
      {list.items && list.items.length > 0 && (
        <table className="card">
          <thead>
            <tr>
              {columns.map((name) => (
                <th key={name} scope="col">
                  {name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {list.items.map((item) => (
              <tr key={item.id}>{row(item)}</tr>
            ))}
          </tbody>
        </table>
      )}
    </>
  );
}

export const money = (amount: number) => amount.toLocaleString(undefined, { maximumFractionDigits: 0 });
