/** Single values of a reservoir, by name. */
export class ReservoirFacts {
  readonly #sql: SqlStorage

  constructor(sql: SqlStorage) {
    this.#sql = sql
  }

  /** Returns a number; undefined if it is not set. */
  number(name: string): number | undefined {
    const value = this.#value(name)
    return value === undefined || value === null ? undefined : Number(value)
  }

  /** Returns a text; empty if it is not set. */
  text(name: string): string {
    const value = this.#value(name)
    return typeof value === 'string' ? value : ''
  }

  /** Sets a value. */
  set(name: string, value: number | string): void {
    this.#sql.exec(
      'INSERT INTO facts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value',
      name,
      value,
    )
  }

  /** Sets a value unless it is set. */
  initialize(name: string, value: number | string): void {
    this.#sql.exec('INSERT OR IGNORE INTO facts VALUES (?, ?)', name, value)
  }

  /** Deletes a value. */
  delete(name: string): void {
    this.#sql.exec('DELETE FROM facts WHERE name = ?', name)
  }

  /** Deletes all values but one. */
  deleteAllBut(name: string): void {
    this.#sql.exec('DELETE FROM facts WHERE name <> ?', name)
  }

  #value(name: string): SqlStorageValue | undefined {
    const [row] = this.#sql.exec<{ value: SqlStorageValue }>('SELECT value FROM facts WHERE name = ?', name)
    return row?.value
  }
}
