import type { AuditEntry, AuditPage } from '@copal/shared/wire/admin-audit.ts'
import { auditHash, FIRST_PREVIOUS_HASH } from '@copal/shared/wire/audit-hash.ts'
import { MODEL } from './service.ts'

const MINUTE_MS = 60_000

const ACTIONS = [
  ['copal', 'decision.promote', `${MODEL}/m14`, { verdict: 'done' }, 'Active; 3 of 3 live nodes serve it.'],
  [
    'admin-3f9c01ab',
    'PATCH /admin/keys/:id',
    'key_000001',
    { status: 200, state: { sampling: 'opt_in' } },
    '',
  ],
  ['node:node-5', 'node.lost', 'node-5', null, ''],
  ['key:key_000004', 'POST /admin/keys', '', { status: 403, error: 'insufficient_permissions' }, ''],
  ['admin-3f9c01ab', 'PUT /admin/nodes/:id/drain', 'node-4', { status: 200 }, ''],
  [
    'copal',
    'decision.gate',
    `${MODEL}/m10`,
    { verdict: 'failed' },
    "Its perplexity on 'legal' is 1.071 × that of the active mask.",
  ],
] as const
let log: Promise<AuditEntry[]> | undefined

async function makeLog(): Promise<AuditEntry[]> {
  const rows: AuditEntry[] = []
  for (let id = 1; id <= 260; id += 1) {
    const [actor, action, target, after, reason] = ACTIONS[id % ACTIONS.length] ?? ACTIONS[0]
    const row = {
      id,
      actor,
      action,
      target,
      before: action.startsWith('PATCH') ? { sampling: 'never' } : null,
      after,
      reason,
      request_id: actor === 'copal' ? null : `req-${id}`,
      created_at: Date.now() - (261 - id) * 23 * MINUTE_MS,
      previous_hash: rows.at(-1)?.hash ?? FIRST_PREVIOUS_HASH,
    }
    rows.push({ ...row, hash: await auditHash(row), sealed: true })
  }
  return rows
}

/** A page of the audit log, whose hashes are right. */
export async function audit(query: URLSearchParams): Promise<AuditPage> {
  const all = await (log ??= makeLog())
  const limit = Number(query.get('limit') ?? 100)
  const isNewest = query.get('order') === 'newest'
  const before = Number(query.get('before') ?? Infinity)
  const rows = (isNewest ? all.toReversed() : all).filter(
    (row) =>
      row.id < before &&
      row.id > Number(query.get('after') ?? 0) &&
      (query.get('actor') ?? row.actor) === row.actor &&
      (query.get('target') ?? row.target) === row.target,
  )
  const data = rows.slice(0, limit)
  const next = data.length < limit ? null : (data.at(-1)?.id ?? null)
  return {
    data,
    checkpoint: null,
    next_after: isNewest ? null : next,
    ...(isNewest ? { next_before: next } : {}),
  }
}
