import type { ReviewText } from '../../contracts/reservoir-object.ts'
import { ordinaryLosses, type DescribedText } from './outliers.ts'

/** The states of a text's review: none, set aside, and kept by an operator. */
const NO_REVIEW = 0
const SET_ASIDE = 1
const KEPT = 2

/** SQL condition of the texts that are not set aside. */
export const NOT_SET_ASIDE = `review <> ${SET_ASIDE}`

const LOSS =
  'coalesce(offered_nll, (SELECT max(nll) FROM descriptions WHERE descriptions.hash = texts.hash), 0)'

interface TextLoss extends DescribedText {
  hash: string
  /** SHA-256 of the dense weights; empty if it is unknown. */
  base: string
}

/** Sets texts aside whose dense loss is far from that of their domain, until an operator keeps or drops them. */
export class ReservoirReview {
  readonly #sql: SqlStorage

  constructor(sql: SqlStorage) {
    this.#sql = sql
  }

  /**
   * Sets the outliers aside, and puts texts back that are none any more. Losses are compared with those under the same weights.
   *
   * @param deviations null puts all back
   */
  setAside(deviations: number | null): void {
    const losses = this.#losses()
    if (losses.length === 0) return
    const outliers = new Set<string>()
    for (const described of deviations === null ? [] : Map.groupBy(losses, ({ base }) => base).values()) {
      const ordinary = ordinaryLosses(described, deviations ?? 0)
      if (!ordinary) continue
      for (const { hash, nll } of described) {
        if (nll < ordinary.low || nll > ordinary.high) outliers.add(hash)
      }
    }
    this.#sql.exec(
      `UPDATE texts SET review = CASE review WHEN ${NO_REVIEW} THEN ${SET_ASIDE} ELSE ${NO_REVIEW} END
       WHERE (review = ${NO_REVIEW} AND hash IN (SELECT value FROM json_each(?1)))
          OR (review = ${SET_ASIDE} AND hash NOT IN (SELECT value FROM json_each(?1)))`,
      JSON.stringify([...outliers]),
    )
  }

  /** Returns the dense losses of texts: those that came with an offer, and those under the weights of each model. */
  #losses(): TextLoss[] {
    return this.#sql
      .exec<{ [Name in keyof TextLoss]: TextLoss[Name] }>(
        `SELECT hash, '' AS base, key_id AS keyId, offered_nll AS nll FROM texts WHERE offered_nll IS NOT NULL
         UNION ALL
         SELECT hash, base, key_id, nll FROM descriptions JOIN texts USING (hash)
         WHERE nll IS NOT NULL`,
      )
      .toArray()
  }

  /** Returns the number of texts that are set aside. */
  count(): number {
    return this.#sql
      .exec<{ count: number }>(`SELECT count(*) AS count FROM texts WHERE review = ${SET_ASIDE}`)
      .one().count
  }

  /** Returns the texts that are set aside, the highest loss first. */
  list(maxTexts: number): ReviewText[] {
    return this.#sql
      .exec<{ [Name in keyof ReviewText]: ReviewText[Name] }>(
        `SELECT hash AS id, text, key_id AS keyId, tenant, side, ${LOSS} AS nllMean FROM texts
         WHERE review = ${SET_ASIDE} ORDER BY nllMean DESC, hash LIMIT ?`,
        maxTexts,
      )
      .toArray()
  }

  /** Puts a text back for good. Returns false if it is not set aside. */
  keep(id: string): boolean {
    return (
      this.#sql.exec(`UPDATE texts SET review = ${KEPT} WHERE hash = ? AND review = ${SET_ASIDE}`, id)
        .rowsWritten > 0
    )
  }

  /** Deletes a text. Returns false if it is not set aside. */
  drop(id: string): boolean {
    const { rowsWritten } = this.#sql.exec(`DELETE FROM texts WHERE hash = ? AND review = ${SET_ASIDE}`, id)
    if (rowsWritten > 0) this.#sql.exec('DELETE FROM sources WHERE hash = ?', id)
    return rowsWritten > 0
  }
}
