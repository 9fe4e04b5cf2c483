import type { ExampleCounts } from '../../contracts/reservoir-counts.ts'
import type {
  DenseDescription,
  DescribedText,
  LossRequest,
  OfferedSample,
  SampleSource,
  Side,
  TextToDescribe,
} from '../../contracts/reservoir-object.ts'
import type { DrawableText } from './fair-draw.ts'
import { OPERATOR_KEY_ID } from './operator-key.ts'
import { firstPiece } from './sample-placement.ts'
import { headOf, textHash } from './text-hash.ts'

/** Characters of a text that describing and classifying read, more than the first 128 tokens in most text. */
const HEAD_CHARACTERS = 1024
/**
 * The column of a text's beginning, which is longer than {@link HEAD_CHARACTERS}. As bytes, because SQLite's text functions end at
 * the first NUL character.
 */
const HEAD = `substr(CAST(text AS BLOB), 1, ${4 * HEAD_CHARACTERS}) AS head`
/** Examples that a classifier learns of a domain: 20 suffice for kinds of text that are clearly different. */
export const EXAMPLES = 64
/** Known losses from which on outliers are told: twice as many as telling them needs at least. */
const ENOUGH_LOSSES = 40
/** Texts come in multiples of this many where there are more to describe, since a call of a node takes as many. */
const WHOLE_CALL = 16

type Row = { hash: string; head: ArrayBuffer; characters: number; tokens: number; embedding: ArrayBuffer } & {
  nll: number | null
  proposal: string | null
  tenants: string
}

/** The descriptions of a reservoir's texts under dense weights: examples of a domain, or what is to be clustered. */
export class ReservoirDescriptions {
  readonly #storage: DurableObjectStorage
  readonly #sql: SqlStorage

  /** @param storage has the tables of a reservoir */
  constructor(storage: DurableObjectStorage) {
    this.#storage = storage
    this.#sql = storage.sql
  }

  /** Stores the descriptions of offers whose texts were kept, and which texts the classifier found. */
  async addOffered(offers: readonly OfferedSample[]): Promise<void> {
    const known = offers.filter(({ description, found }) => description ?? found)
    if (known.length === 0) return
    const hashed = await Promise.all(
      known.map(async ({ text, description, found }) => ({
        hash: await textHash(firstPiece(text)),
        description,
        found,
      })),
    )
    this.#storage.transactionSync(() => {
      for (const { hash, description, found } of hashed) {
        if (found) this.#insert({ hash, baseSha256: '', tokens: 0, embedding: [], nllMean: null }, true)
        else if (description) this.#insert({ hash, ...description }, false)
      }
    })
  }

  textsToDescribe({
    baseSha256,
    want,
    limit,
    heldOut = false,
  }: {
    baseSha256: string
    want: number
    limit: number
    heldOut?: boolean
  }): { described: number; texts: TextToDescribe[] } {
    const { described, missing } = this.#wanted(baseSha256, want, heldOut)
    const texts = this.#sql
      .exec<{ hash: string; head: ArrayBuffer }>(
        `SELECT hash, ${HEAD} FROM texts WHERE hash IN (SELECT value FROM json_each(?)) ORDER BY priority`,
        JSON.stringify(missing.slice(0, limit)),
      )
      .toArray()
    return { described, texts: texts.map(textToDescribe) }
  }

  /** Returns how many of the first `want` texts, held-out ones too, have a description, and how many lack one. */
  countDescribed(baseSha256: string, want: number): ExampleCounts {
    const { described, missing } = this.#wanted(baseSha256, want, true)
    return { described, missing: missing.length }
  }

  /** Returns how many of the first {@link EXAMPLES} texts have a description and how many lack one, by dense weights. */
  exampleCounts(): Record<string, ExampleCounts> {
    const bases = this.#sql
      .exec<{ base: string }>(`SELECT DISTINCT base FROM descriptions WHERE base <> ''`)
      .toArray()
      .map(({ base }) => base)
    return Object.fromEntries(
      ['', ...bases].map((base) => {
        const { described, missing } = this.#wanted(base, EXAMPLES, false)
        return [base, { described, missing: missing.length }]
      }),
    )
  }

  /** @param drawn the texts that an update would take or hold out */
  textsWithoutLoss(
    drawn: readonly DrawableText[],
    { baseSha256, limit }: Pick<LossRequest, 'baseSha256' | 'limit'>,
  ): TextToDescribe[] {
    const sent = drawn.filter(({ keyId }) => keyId !== OPERATOR_KEY_ID).map(({ hash }) => hash)
    // What the operator imports spoils nothing.
    if (sent.length === 0) return []
    const { known } = this.#sql
      .exec<{ known: number }>(
        'SELECT count(*) AS known FROM descriptions WHERE base = ? AND nll IS NOT NULL',
        baseSha256,
      )
      .one()
    const missing = this.#sql
      .exec<{ hash: string; head: ArrayBuffer; isSent: number }>(
        `SELECT hash, ${HEAD},
           hash IN (SELECT value FROM json_each(?1)) AS isSent
         FROM texts WHERE offered_nll IS NULL
           AND NOT EXISTS (SELECT 1 FROM descriptions WHERE descriptions.hash = texts.hash AND base = ?2)
         ORDER BY isSent DESC, side = 'holdout', priority LIMIT ?3`,
        JSON.stringify(sent),
        baseSha256,
        limit,
      )
      .toArray()
    const needed = missing.filter(({ isSent }) => isSent === 1).length
    return missing
      .slice(0, Math.max(Math.ceil(needed / WHOLE_CALL) * WHOLE_CALL, ENOUGH_LOSSES - known))
      .map(textToDescribe)
  }

  storeDescriptions(
    descriptions: readonly ({ hash: string } & DenseDescription)[],
    bases: readonly string[],
    isPoolOnly = false,
  ): void {
    this.#storage.transactionSync(() => {
      this.#sql.exec(
        `DELETE FROM descriptions WHERE base <> '' AND base NOT IN (SELECT value FROM json_each(?))`,
        JSON.stringify(bases),
      )
      for (const description of descriptions)
        this.#insert(description, !this.#isExample(description.hash, isPoolOnly))
    })
  }

  listDescribed(baseSha256: string, limit: number): DescribedText[] {
    return this.#sql
      .exec<Row>(
        `SELECT hash, ${HEAD}, characters, tokens, embedding, nll, proposal,
           (SELECT json_group_array(DISTINCT tenant) FROM sources WHERE sources.hash = texts.hash) AS tenants
         FROM texts JOIN descriptions USING (hash)
         WHERE base = ? AND found = 0 ORDER BY priority LIMIT ?`,
        baseSha256,
        limit,
      )
      .toArray()
      .map(({ head, embedding, nll, tenants, ...row }) => ({
        ...row,
        text: beginningOf(head),
        embedding: [...new Float32Array(embedding)],
        nllMean: nll,
        tenants: JSON.parse(tenants) as string[],
      }))
  }

  propose(baseSha256: string, proposals: Readonly<Record<string, readonly string[]>>): void {
    this.#storage.transactionSync(() => {
      this.#sql.exec('UPDATE descriptions SET proposal = NULL WHERE base = ?', baseSha256)
      for (const [proposal, hashes] of Object.entries(proposals)) {
        this.#sql.exec(
          'UPDATE descriptions SET proposal = ? WHERE base = ? AND hash IN (SELECT value FROM json_each(?))',
          proposal,
          baseSha256,
          JSON.stringify(hashes),
        )
      }
    })
  }

  countUngrouped(baseSha256: string, limit: number): number {
    return this.#sql
      .exec<{ texts: number }>(
        `SELECT count(*) AS texts FROM (
           SELECT proposal FROM texts JOIN descriptions USING (hash) WHERE base = ? AND found = 0 ORDER BY priority LIMIT ?
         ) WHERE proposal IS NULL`,
        baseSha256,
        limit,
      )
      .one().texts
  }

  proposalSizes(): Record<string, number> {
    const rows = this.#sql.exec<{ proposal: string; texts: number }>(
      'SELECT proposal, count(*) AS texts FROM descriptions WHERE proposal IS NOT NULL GROUP BY proposal',
    )
    return Object.fromEntries(rows.toArray().map(({ proposal, texts }) => [proposal, texts]))
  }

  tenantsOf(proposal: string, limit: number): string[] {
    return this.#sql
      .exec<{ tenant: string }>(
        `SELECT DISTINCT tenant FROM sources JOIN descriptions USING (hash) WHERE proposal = ? LIMIT ?`,
        proposal,
        limit,
      )
      .toArray()
      .map(({ tenant }) => tenant)
  }

  previewsOf(
    proposals: readonly string[],
    { texts, characters }: { texts: number; characters: number },
  ): Record<string, string[]> {
    const rows = this.#sql
      .exec<{ proposal: string; text: string }>(
        `SELECT proposal, text FROM texts JOIN (
           SELECT hash, proposal, row_number() OVER (PARTITION BY proposal ORDER BY priority) AS place
           FROM texts JOIN descriptions USING (hash) WHERE proposal IN (SELECT value FROM json_each(?))
         ) USING (hash) WHERE place <= ? ORDER BY place`,
        JSON.stringify(proposals),
        texts,
      )
      .toArray()
    const previews: Record<string, string[]> = {}
    for (const { proposal, text } of rows) (previews[proposal] ??= []).push(headOf(text, characters))
    return previews
  }

  offersOf(proposal: string, limit: number): { hashes: string[]; offers: OfferedSample[] } {
    const texts = this.#sql
      .exec<{ hash: string; base: string; text: string; side: Side } & Omit<Row, 'proposal' | 'tenants'>>(
        `SELECT hash, base, text, side, tokens, embedding, nll FROM texts JOIN descriptions USING (hash)
         WHERE proposal = ? ORDER BY priority LIMIT ?`,
        proposal,
        limit,
      )
      .toArray()
    const offers = texts.flatMap(({ hash, base, text, side, tokens, embedding, nll }) => {
      const sources = this.#sql.exec<
        { [N in keyof SampleSource]: SampleSource[N] } & { opening: string; atMs: number }
      >(
        `SELECT request_id AS requestId, key_id AS keyId, tenant, conversation, consent_version AS consentVersion,
           opening, at_ms AS atMs
         FROM sources WHERE hash = ? ORDER BY at_ms, key_id, conversation`,
        hash,
      )
      const description = {
        baseSha256: base,
        tokens,
        embedding: [...new Float32Array(embedding)],
        nllMean: nll,
      }
      return sources.toArray().map((source) => ({
        ...source,
        side,
        text,
        description,
        ...(nll === null ? {} : { nllMean: nll }),
      }))
    })
    return { hashes: texts.map(({ hash }) => hash), offers }
  }

  /** Returns which of the first `want` texts lack a description, and how many have one; see {@link textsToDescribe}. */
  #wanted(base: string, want: number, heldOut: boolean): { described: number; missing: string[] } {
    const wanted = this.#sql
      .exec<{ hash: string; described: number }>(
        `SELECT hash, EXISTS (
           SELECT 1 FROM descriptions WHERE descriptions.hash = texts.hash AND base = ?2
         ) AS described FROM texts
         WHERE (side = 'pool' OR ?1 OR described)
           AND NOT EXISTS (SELECT 1 FROM descriptions WHERE descriptions.hash = texts.hash AND found = 1)
         ORDER BY priority LIMIT ?3`,
        heldOut ? 1 : 0,
        base,
        want,
      )
      .toArray()
    const missing = wanted.flatMap(({ hash, described }) => (described === 0 ? hash : []))
    return { described: wanted.length - missing.length, missing }
  }

  /** Returns whether a text may be an example of the domain: neither held out nor put there by the classifier. */
  #isExample(hash: string, isPoolOnly: boolean): boolean {
    return (
      this.#sql
        .exec(
          `SELECT 1 FROM texts WHERE hash = ?1 AND (side = 'holdout' AND ?2
             OR EXISTS (SELECT 1 FROM descriptions WHERE descriptions.hash = ?1 AND found = 1))`,
          hash,
          isPoolOnly ? 1 : 0,
        )
        .toArray().length === 0
    )
  }

  /** Inserts a description unless its text is not stored. An example stays one. */
  #insert(
    { hash, baseSha256, tokens, embedding, nllMean }: { hash: string } & DenseDescription,
    found: boolean,
  ): void {
    const bytes = Float32Array.from(found ? [] : embedding).buffer
    this.#sql.exec(
      `INSERT INTO descriptions SELECT ?1, ?2, ?3, ?4, ?5, ?6, NULL WHERE EXISTS (SELECT 1 FROM texts WHERE hash = ?1)
       ON CONFLICT DO NOTHING`,
      hash,
      baseSha256,
      tokens,
      bytes,
      nllMean,
      found ? 1 : 0,
    )
  }
}

const decoder = new TextDecoder('utf-8', { fatal: false, ignoreBOM: true })

/** Returns the first {@link HEAD_CHARACTERS} of a text from its first bytes, which may end inside a later character. */
function beginningOf(head: ArrayBuffer): string {
  return headOf(decoder.decode(head), HEAD_CHARACTERS)
}

function textToDescribe({ hash, head }: Pick<Row, 'hash' | 'head'>): TextToDescribe {
  return { hash, text: beginningOf(head) }
}
