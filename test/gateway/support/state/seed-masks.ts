import { env } from 'cloudflare:workers'
import { eq, sql } from 'drizzle-orm'
import type { ErrorCode } from '@copal/shared/errors.ts'
import type { PolicyOverrides } from '@copal/shared/wire/admin-policy.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { findModel } from '../../../../gateway/src/storage/db/queries/model-queries.ts'
import { setPolicyOverrides } from '../../../../gateway/src/storage/db/queries/policy-queries.ts'
import { insertReceipts } from '../../../../gateway/src/storage/db/queries/receipt-queries.ts'
import { insertShadowScores } from '../../../../gateway/src/storage/db/queries/shadow-score-queries.ts'
import { ensureDomains } from '../../../../gateway/src/storage/db/queries/domain-queries.ts'
import { masks, models } from '../../../../gateway/src/storage/db/schema/masks.ts'
import { updates } from '../../../../gateway/src/storage/db/schema/updates.ts'
import type { UpdateRow } from '../../../../gateway/src/storage/db/queries/update-queries.ts'
import { receiptOf } from '../requests/gateway-requests.ts'

const db = openDatabase(env.DB)
let seeded = 0

/**
 * Registers masks with the given versions of a model that has a node, and activates the first unless told otherwise. Only
 * the active one was promoted, unless told otherwise.
 */
export async function seedMasks(
  model: string,
  versions: readonly number[],
  {
    active = versions[0],
    promoted = active == null ? [] : [active],
  }: { active?: number | null | undefined; promoted?: readonly number[] } = {},
): Promise<void> {
  for (const version of versions)
    await seedMask(model, version, { promotedAt: promoted.includes(version) ? 1 : null })
  if (active != null) await activate(model, active)
}

/** Registers one mask. */
export async function seedMask(
  model: string,
  version: number,
  changes: Partial<typeof masks.$inferInsert> = {},
): Promise<void> {
  await db.insert(masks).values({
    model,
    version,
    sha256: hashOf(model, version),
    updateId: `${model}-update-${version}`,
    method: 'continual-wanda',
    pattern: '0.5',
    scope: 'row',
    sparsity: 0.5,
    domains: [],
    bytes: 100,
    createdAt: 1,
    ...changes,
  })
}

function hashOf(model: string, version: number): string {
  const letters = Array.from(model, (letter) => letter.charCodeAt(0).toString(16))
  return `${version}${letters.join('')}`.padEnd(64, '0').slice(0, 64)
}

/** Makes a version of a model active, and the active one the previous one. */
export async function activate(model: string, version: number): Promise<void> {
  const { id, activeVersion, revision } = models
  const { meta } = await db
    .update(models)
    .set({ previousVersion: sql`${activeVersion}`, activeVersion: version, revision: sql`${revision} + 1` })
    .where(eq(id, model))
  if (meta.changes !== 1) throw new Error(`There is no model '${model}'.`)
}

/** Stores the update that made a mask, in a state that it reached. */
export async function seedUpdate(
  model: string,
  maskVersion: number,
  changes: Partial<UpdateRow> = {},
): Promise<string> {
  const id = `${model}-update-${maskVersion}`
  await db.insert(updates).values({
    id,
    model,
    domains: ['code'],
    method: 'continual-wanda',
    pattern: '0.5',
    scope: 'row',
    samples: 2,
    length: 64,
    seed: 0,
    state: 'canary',
    datasets: [],
    parentVersion: (await findModel(db, model))?.activeVersion ?? 0,
    maskVersion,
    createdAt: Date.now(),
    ...changes,
  })
  return id
}

/** Changes the policy of a model. */
export async function setPolicy(model: string, policy: PolicyOverrides): Promise<void> {
  await setPolicyOverrides(db, model, policy, Date.now())
}

/** Stores scores of requests under the active mask and under a shadow, whose loss is higher by `gap` nats a token. */
export async function seedScores(
  model: string,
  {
    maskVersion,
    shadowVersion,
    count,
    gap,
    domain = 'code',
    atMs = Date.now(),
    tokens = 40,
  }: {
    maskVersion: number
    shadowVersion: number
    count: number
    gap: number
    domain?: string
    atMs?: number
    tokens?: number
  },
): Promise<void> {
  await ensureDomains(db, [domain], 1)
  const scores = Array.from({ length: count }, () => {
    seeded += 1
    return {
      requestId: `score-${String(seeded).padStart(8, '0')}`,
      model,
      domain,
      maskVersion,
      shadowVersion,
      prompt: { tokens, nll: 3 * tokens, nllShadow: (3 + gap) * tokens },
      answer: { tokens: 5, nll: 5, nllShadow: 5 },
    }
  })
  await insertShadowScores(db, scores, atMs)
}

/**
 * Stores receipts of requests that a mask answered, of which every `failEvery`-th failed or ended as `failure` says. Without an
 * `errorCode` they are of an older node.
 */
export async function seedReceipts(
  model: string,
  {
    maskVersion,
    count,
    failEvery = Infinity,
    failure = 'error',
    errorCode,
    origin = 'node',
    firstTokenMs = 50,
    atMs = Date.now(),
  }: {
    maskVersion: number
    count: number
    failEvery?: number
    failure?: 'error' | 'superseded'
    errorCode?: ErrorCode | undefined
    origin?: 'node' | 'estimate'
    firstTokenMs?: number
    atMs?: number
  },
): Promise<void> {
  const batch = Array.from({ length: count }, (_, index) => {
    seeded += 1
    const receipt = receiptOf(`receipt-${String(seeded).padStart(8, '0')}`, {
      model,
      maskVersion,
      timeToFirstTokenMs: firstTokenMs,
      totalMs: firstTokenMs + 100,
    })
    return (index + 1) % failEvery === 0 ? { ...receipt, finishReason: failure, errorCode } : receipt
  })
  await insertReceipts(db, 'seed', batch, origin, atMs)
}
