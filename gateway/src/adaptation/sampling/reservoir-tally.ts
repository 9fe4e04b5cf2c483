import type { Side } from '../../contracts/reservoir-object.ts'
import { OPERATOR_KEY_ID } from './operator-key.ts'
import type { SideBounds } from './reservoir-texts.ts'

/** The key, with its tenant, that a text counts for. */
export interface TextOwner {
  tenant: string
  keyId: string
}

type OwnerRow = { [Name in keyof TextOwner]: TextOwner[Name] }

/** The texts that one key has stored on a side, and the priority from which on further ones are rejected. */
interface KeyTally extends SideBounds, TextOwner {
  threshold: number
}

interface TenantTally extends SideBounds {
  keys: Map<string, KeyTally>
}

/** The group of texts that an operator imported. No tenant has this name. */
const OPERATOR_GROUP = '(operator)'
/** Part of a side that imported texts may keep where others need the room. */
const OPERATOR_FRACTION = 1 / 2

type Measure = keyof SideBounds

/** The size of one side of a reservoir by tenant and key. */
export class ReservoirTally {
  readonly size: SideBounds = { texts: 0, characters: 0 }
  readonly #sql: SqlStorage
  readonly #side: Side
  readonly #tenants = new Map<string, TenantTally>()
  readonly #changed = new Set<KeyTally>()

  /** Counts what is stored. */
  constructor(sql: SqlStorage, side: Side) {
    this.#sql = sql
    this.#side = side
    const rows = sql.exec<OwnerRow & { texts: number; characters: number }>(
      `SELECT tenant, key_id AS keyId, count(*) AS texts, sum(characters) AS characters FROM texts
       WHERE side = ? GROUP BY tenant, key_id`,
      side,
    )
    for (const { texts, characters, ...owner } of rows) this.#count(owner, { texts, characters })
    for (const { threshold, ...owner } of sql.exec<OwnerRow & { threshold: number }>(
      'SELECT tenant, key_id AS keyId, threshold FROM thresholds WHERE side = ?',
      side,
    )) {
      this.#keyOf(owner).threshold = threshold
    }
  }

  /** Returns the priority from which on texts of a key are rejected. */
  threshold({ tenant, keyId }: TextOwner): number {
    return this.#tenants.get(groupOf({ tenant, keyId }))?.keys.get(keyId)?.threshold ?? 1
  }

  /** Returns the characters that a key has stored. */
  charactersOf({ tenant, keyId }: TextOwner): number {
    return this.#tenants.get(groupOf({ tenant, keyId }))?.keys.get(keyId)?.characters ?? 0
  }

  /** Counts a stored text. */
  add(owner: TextOwner, characters: number): void {
    this.#count(owner, { texts: 1, characters })
  }

  /** Counts a text that is gone. */
  remove(owner: TextOwner, characters: number): void {
    this.#count(owner, { texts: -1, characters: -characters })
  }

  /** Lets a key store only texts of lower priorities from now on. */
  lowerThreshold(owner: TextOwner, priority: number): void {
    const key = this.#keyOf(owner)
    if (priority >= key.threshold) return
    key.threshold = priority
    this.#changed.add(key)
  }

  /** Stores the changed thresholds. */
  save(): void {
    for (const { tenant, keyId, threshold } of this.#changed) {
      this.#sql.exec(
        'INSERT OR REPLACE INTO thresholds (side, tenant, key_id, threshold) VALUES (?, ?, ?, ?)',
        this.#side,
        tenant,
        keyId,
        threshold,
      )
    }
    this.#changed.clear()
  }

  /**
   * Returns the keys that have stored most, of the tenant that has: one of them makes room. Texts that an operator imported
   * do so only where they take more than half.
   */
  heaviestKeys(measure: Measure, bounds: SideBounds): TextOwner[] {
    const imported = this.#tenants.get(OPERATOR_GROUP)
    const isExempt =
      imported &&
      imported[measure] <= bounds[measure] * OPERATOR_FRACTION &&
      imported[measure] < this.size[measure]
    const tenants = [...this.#tenants.values()].filter((tenant) => !isExempt || tenant !== imported)
    const keys = heaviest(tenants, measure).flatMap(({ keys: own }) => [...own.values()])
    return heaviest(keys, measure)
  }

  #count(owner: TextOwner, { texts, characters }: SideBounds): void {
    const key = this.#keyOf(owner)
    const tenant = this.#tenants.get(groupOf(owner))
    for (const counted of [this.size, key, ...(tenant ? [tenant] : [])]) {
      counted.texts += texts
      counted.characters += characters
    }
  }

  #keyOf(owner: TextOwner): KeyTally {
    const group = groupOf(owner)
    let tenant = this.#tenants.get(group)
    if (!tenant) this.#tenants.set(group, (tenant = { texts: 0, characters: 0, keys: new Map() }))
    let key = tenant.keys.get(owner.keyId)
    if (!key) {
      key = { tenant: owner.tenant, keyId: owner.keyId, texts: 0, characters: 0, threshold: 1 }
      tenant.keys.set(owner.keyId, key)
    }
    return key
  }
}

function groupOf({ tenant, keyId }: TextOwner): string {
  return keyId === OPERATOR_KEY_ID ? OPERATOR_GROUP : tenant
}

function heaviest<Tally extends SideBounds>(tallies: readonly Tally[], measure: Measure): Tally[] {
  const most = tallies.reduce((least, tally) => Math.max(least, tally[measure]), 0)
  return tallies.filter((tally) => tally[measure] === most)
}
