/** The marks of texts that updates have taken. A text is taken once for a model, and its mark outlives it. */
export class ReservoirMarks {
  readonly #sql: SqlStorage

  constructor(sql: SqlStorage) {
    this.#sql = sql
  }

  /** Returns whether an update has taken any text. */
  isAny(model: string, updateId: string): boolean {
    const [mark] = this.#sql.exec(
      'SELECT 1 FROM taken WHERE model = ? AND update_id = ? LIMIT 1',
      model,
      updateId,
    )
    return mark !== undefined
  }

  /** Marks texts by their hashes, whether they are stored or not. */
  add(model: string, updateId: string, hashes: readonly string[]): void {
    const list = JSON.stringify(hashes)
    this.#sql.exec('INSERT OR IGNORE INTO taken SELECT ?, value, ? FROM json_each(?)', model, updateId, list)
    this.#sql.exec('UPDATE texts SET taken = 1 WHERE hash IN (SELECT value FROM json_each(?))', list)
  }

  /** Removes the marks of an update. */
  remove(model: string, updateId: string): void {
    this.#sql.exec('DELETE FROM taken WHERE model = ? AND update_id = ?', model, updateId)
    this.#sql.exec('UPDATE texts SET taken = 0 WHERE taken = 1 AND hash NOT IN (SELECT hash FROM taken)')
  }
}
